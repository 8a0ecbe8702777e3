"""`paper-qwen3-8b.yaml` in shape: the published batch on 32 devices, the 8B network without its weights.

Nothing here was trained at that size. Qwen3-8B's configuration is written out, since a test needs no hub.
"""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from opera_client import RewardClient
from opera_client.wire import Message
from opera_trainer import models
from opera_trainer.artefacts import Task, Trace
from opera_trainer.config import load, packaged
from opera_trainer.grpo import data as grpo_data
from opera_trainer.grpo.arguments import arguments as grpo_arguments
from opera_trainer.sft import data as sft_data
from opera_trainer.sft.arguments import arguments as sft_arguments

QWEN3_8B = Qwen3Config(
    vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32,
    num_key_value_heads=8, head_dim=128, max_position_embeddings=40960, rope_theta=1_000_000,
    tie_word_embeddings=False,
)  # fmt: skip


@pytest.fixture
def config():
    return load(packaged("paper-qwen3-8b"))


@pytest.fixture
def on_32_gpus(monkeypatch):
    """What settings see on one of 32 devices, without starting them."""
    monkeypatch.setattr("opera_trainer.training.world_size", lambda: 32)
    monkeypatch.setattr("transformers.TrainingArguments.world_size", 32)


def test_the_network_has_8b_parameters_and_holds_a_whole_trajectory(config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(QWEN3_8B, dtype=torch.bfloat16)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        length = config.grpo.max_prompt_length + config.grpo.max_completion_length
        ids = torch.zeros(1, length, dtype=torch.long)
        causal = {"full_attention": None}  # building a mask reads values, and there are none on this device
        logits = model(input_ids=ids, attention_mask=causal, logits_to_keep=1, use_cache=False).logits
    assert 8.1e9 < parameters < 8.3e9
    assert length == config.grpo.vllm.max_model_length == 16384 <= QWEN3_8B.max_position_embeddings
    assert logits.shape == (1, 1, 151936)


def test_a_rollout_batch_is_64_prompts_by_16_used_up_in_8_steps(config, on_32_gpus, tmp_path):
    found = grpo_arguments(config, config.grpo, tmp_path, validates=False)
    assert found.generation_batch_size == 64 * 16
    assert found.per_device_train_batch_size * 32 * found.gradient_accumulation_steps == 8 * 16
    assert found.steps_per_generation == 8 * found.gradient_accumulation_steps
    assert found.max_steps == 208
    assert (found.learning_rate, found.warmup_steps, found.weight_decay) == (1e-6, 0.4, 0.01)
    assert found.lr_scheduler_type == "constant_with_warmup"
    assert (found.beta, found.epsilon, found.delta, found.loss_type) == (0.001, 0.2, 3.0, "dapo")
    assert found.scale_rewards == "group"
    assert (found.use_vllm, found.vllm_tensor_parallel_size, found.vllm_max_model_length) == (True, 2, 16384)
    assert found.vllm_gpu_memory_utilization == 0.4
    assert found.bf16
    assert found.gradient_checkpointing


def test_fine_tuning_has_its_batch(config, on_32_gpus, tmp_path):
    found = sft_arguments(config, config.sft, tmp_path)
    assert found.per_device_train_batch_size * 32 * found.gradient_accumulation_steps == 64
    assert (found.packing, found.max_length) == (True, 16384)


def test_data_pass_at_the_papers_lengths(config):
    tokenizer = models.load(models.base("demo"))[1]
    long = "The shop has 12 pears. " * 1200
    tasks = [
        Task(id=str(size), prompt=[Message(role="user", content=long[:size])], reference="The shop has 9 pears.")
        for size in (100, 10_000, len(long))
    ]
    counts = [len(models.chat(tokenizer, [{"role": "user", "content": task.prompt[0].content}])) for task in tasks]
    assert counts[1] < config.grpo.max_prompt_length < counts[2]
    rows, dropped = grpo_data.rows(tasks, tokenizer, config.grpo.max_prompt_length)
    assert (len(rows), dropped) == (2, 1)

    thought = "Ana sold 3, 12 minus 3 is 9.\n\n" * 1000
    trace = Trace(
        task_id="1", prompt=tasks[0].prompt, reference=tasks[0].reference, thought=thought,
        answer=tasks[0].reference, response=f"<think>\n{thought}</think>\n\n{tasks[0].reference}", gain=0.1,
    )  # fmt: skip
    (row,), dropped = sft_data.rows([trace], tokenizer, config.sft.max_length)
    assert 6144 < len(row["input_ids"]) <= config.sft.max_length
    assert dropped == 0


@pytest.mark.parametrize("preset", ["paper", "hardened"])
def test_rewards_are_read_off_a_trajectory_of_full_length(config, preset, tmp_path):
    base = models.base("demo")
    wide = AutoConfig.from_pretrained(base)
    wide.max_position_embeddings = QWEN3_8B.max_position_embeddings  # the reference comes after a full trajectory
    torch.manual_seed(0)
    models.save(AutoModelForCausalLM.from_config(wide), models.load(base)[1], base, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.model_max_length = wide.max_position_embeddings
    tokenizer.save_pretrained(tmp_path)

    def cut(text: str, tokens: int) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"][:tokens]

    prompt = cut("The shop has 12 pears. Ana sold 3. " * 2000, config.grpo.max_prompt_length)
    end = cut("</think>\n\nThe shop now has 9 pears.<|im_end|>", 100)
    body = cut("<think>\n" + "Wait, that is wrong, 12 minus 3 is 9. Go on step by step. " * 20 + "\n\n", 1000)
    thought = (body * 60)[: config.grpo.max_completion_length - len(end)]
    group = {
        "prompt_token_ids": prompt,
        "reference": "The shop now has 9 pears.",
        "trajectories": [{"response_token_ids": thought + end}, {"response_token_ids": body + end}],
    }
    with RewardClient.in_process(engine="torch", model=str(tmp_path), options={"timeout": 280}) as client:
        (answer,) = client.reward([group], reward="opera", preset=preset).groups
    assert [one.status for one in answer.trajectories] == ["ok", "ok"]
    long, short = answer.trajectories
    assert len(prompt) + len(thought) + len(end) == 16384
    assert len(long.segments or []) > len(short.segments or []) >= 1
