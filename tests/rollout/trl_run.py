"""A GRPO training whose vLLM scores its own rollouts: colocated, or the server at URL.

    python tests/rollout/trl_run.py MODEL FOLDER [URL]

Writes what every reward call was asked and answered, and the weights that it was about, into FOLDER. Two things
are not as TRL has them, for the CPU's sake. Its settings do not reach vLLM's dtype: float32 is set here. And it
copies the trainer's parameters into vLLM's, which on a CPU are packed for its own kernels (`'Parameter' object has
no attribute 'weight_loader'`, vllm/model_executor/layers/linear.py); a server gets them by NCCL, for which TRL's
client wants a CUDA device (`VLLMClient.init_communicator`). Here vLLM reads them from a folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "HF_HUB_OFFLINE": "1",
}

import httpx
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
from trl.generation import vllm_generation

from opera_adapters.reward import OperaReward
from opera_client import RewardClient

QUESTIONS = ["Where is the box?", "Who has the red ball?", "What did Tom see?", "How many coins are there?"]
REFERENCE = "The box is in the shop."
STEPS = 3
CONFIG = {"think": {"mode": "optional"}}
"""The embedded model seldom closes a thought within so few tokens."""
SYNCED = Path(sys.argv[2])


class Watched:
    """An `OperaReward` whose calls are written down, with the weights of the moment."""

    __name__ = "opera"

    def __init__(self, reward: OperaReward, folder: Path) -> None:
        self._reward, self._folder = reward, folder
        self.trainer: Any = None

    async def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> Any:
        found = await self._reward(prompts, completions, completion_ids, **columns)
        step = columns["trainer_state"].global_step
        for part in (self.trainer.model, self.trainer.processing_class):
            part.save_pretrained(self._folder / f"weights-{step}")
        asked = {"prompts": prompts, "completions": completions, "completion_ids": completion_ids}
        model = await asyncio.to_thread(self._reward._caller._given.model)
        told = {"config": CONFIG, "route": model.route, "reason": model.route_reason}
        call = {**asked, "reference": columns["reference"], "rewards": found, **told}
        (self._folder / f"call-{step}.json").write_text(json.dumps(call))
        return found


def sync_weights(self: vllm_generation.VLLMGeneration) -> None:
    """Stand in for `VLLMGeneration.sync_weights`, see above: the same weights at the same moment."""
    folder = mkdtemp(dir=SYNCED)
    self.model.save_pretrained(folder)
    self.processing_class.save_pretrained(folder)  # from then on, vLLM calls the folder its model
    if self.mode == "colocate":
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        assert self.llm.reset_prefix_cache()
    else:
        asked = {"method": "reload_weights", "kwargs": {"weights_path": folder}}
        httpx.post(f"{self.server_base_url}/collective_rpc", json=asked, timeout=120).raise_for_status()
        self.vllm_client.reset_prefix_cache()


def main(model: str, folder: Path, url: str | None = None) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    vllm_generation.LLM = partial(
        vllm_generation.LLM, dtype="float32", enforce_eager=True, block_size=32, disable_log_stats=True
    )
    vllm_generation.VLLMGeneration.sync_weights = sync_weights
    vllm_generation.VLLMClient.init_communicator = lambda _self, device: None
    if url is None:
        reward = Watched(OperaReward(score_on="rollout", config=CONFIG), folder)
        where: dict[str, Any] = {"vllm_mode": "colocate", "vllm_enable_sleep_mode": False}
    else:
        client = RewardClient.in_process(engine="vllm-http", vllm_url=url, model=model)
        reward = Watched(OperaReward(client=client, config=CONFIG), folder)
        where = {"vllm_mode": "server", "vllm_server_base_url": url}
    config = GRPOConfig(
        output_dir=str(folder / "out"), max_steps=STEPS, per_device_train_batch_size=8, num_generations=4,
        max_completion_length=64, learning_rate=1e-3, logging_steps=1, save_strategy="no", report_to="none",
        use_cpu=True, bf16=False, seed=1, disable_tqdm=True,
        use_vllm=True, vllm_max_model_length=1024, **where,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": QUESTIONS, "reference": [REFERENCE] * len(QUESTIONS)}),
        processing_class=tokenizer,
    )
    reward.trainer = trainer
    trainer.train()
    (folder / "log.json").write_text(json.dumps(trainer.state.log_history))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
