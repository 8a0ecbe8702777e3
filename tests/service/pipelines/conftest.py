"""A random tiny Qwen3 on disk with a tokenizer trained here, and plain transformers as the oracle."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from opera_client import AsyncRewardClient

TEXTS = [
    "What is 17 + 25? 7 + 5 carries, so it is 42.\n\nWait, that is not right. Let me check it again.\n\n",
    "But the second number is larger. However, the sum stays the same. Hmm, maybe not.\n\n<think>\n",
    "等等,让我再想一想。 It is a quiet evening; the sea is grey and the harbour empty.\n\n</think>\n\n",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Oracle = Callable[[list[int], list[int]], list[float]]


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `--model` takes it: random float32 weights and a byte-level BPE of 400 tokens."""
    folder = tmp_path_factory.mktemp("tiny-qwen3")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    raw.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    raw.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in ("<think>", "</think>")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer) + 5,  # padded, as real models are
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=2048,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
async def client(tiny_qwen: Path) -> AsyncIterator[AsyncRewardClient]:
    """The service on `tiny_qwen` in this process; every number is computed anew, by the route that fits all."""
    settings = {"engine": "torch", "model": str(tiny_qwen), "dtype": "float32", "device": "cpu"}
    async with AsyncRewardClient.in_process(**settings, cache_mb=0, route_measure_s=0) as one:
        yield one


@pytest.fixture(scope="session")
def hf_tokenizer(tiny_qwen: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(tiny_qwen)


@pytest.fixture(scope="session")
def rows(tiny_qwen: Path) -> Callable[[list[int]], torch.Tensor]:
    """float64[tokens, vocabulary]: next-token log-probs after each id, from one plain forward of transformers."""
    model = AutoModelForCausalLM.from_pretrained(
        tiny_qwen, dtype=torch.float64, attn_implementation="eager"
    ).eval()

    @torch.no_grad()
    def of(ids: list[int]) -> torch.Tensor:
        return torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)

    return of


@pytest.fixture(scope="session")
def oracle(rows: Callable[[list[int]], torch.Tensor]) -> Oracle:
    """log p(target | context), token by token."""

    def logprobs(context: list[int], target: list[int]) -> list[float]:
        found = rows(context + target)[len(context) - 1 : -1]
        return found[torch.arange(len(target)), torch.tensor(target)].tolist()

    return logprobs
