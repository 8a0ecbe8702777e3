"""What the adapter costs: the time TRL waits for a batch's rewards over the service's own total for that batch.

    opera-reward serve --port 8000 &
    python benchmarks/trl_overhead.py --url http://127.0.0.1:8000 --steps 20

Needs `pip install 'opera-reward[server,trl]'`. Real GRPOTrainer on the embedded model, as examples/trl_grpo.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from opera_adapters.trl import OperaReward
from opera_client import AsyncRewardClient
from opera_client.wire import RewardResult
from opera_service.demo import model_path
from opera_service.demo.world import tasks


class Told(AsyncRewardClient):
    """A client that remembers the service's own total of its last answer, in seconds."""

    total = 0.0

    async def reward(self, *args: Any, **kwargs: Any) -> RewardResult:
        result = await super().reward(*args, **kwargs)
        self.total = result.timing_ms.total / 1000
        return result


class Timed(OperaReward):
    """A reward that notes how long TRL waits for it."""

    def __init__(self, client: Told) -> None:
        super().__init__(client=client)
        self.told = client
        self.calls: list[tuple[float, float]] = []

    async def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
        start = time.perf_counter()
        rewards = await super().__call__(*args, **kwargs)
        self.calls.append((time.perf_counter() - start, self.told.total))
        return rewards


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="http://127.0.0.1:8000")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--generations", type=int, default=8)
    options.add_argument("--tokens", type=int, default=110)
    given = options.parse_args()
    torch.set_num_threads(1)
    rows = [
        {"prompt": [{"role": "user", "content": task.question}], "reference": task.reference}
        for task in tasks("train", 64)
    ]
    reward = Timed(Told(given.url))
    with tempfile.TemporaryDirectory() as folder:
        GRPOTrainer(
            AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32),
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder, max_steps=given.steps, per_device_train_batch_size=given.batch,
                num_generations=given.generations, max_completion_length=given.tokens, save_strategy="no",
                report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(model_path()),
        ).train()  # fmt: skip
    seen, told = reward.calls[0]
    print(f"first call: {seen * 1000:.1f} ms seen, {told * 1000:.1f} ms told (the connection is opened)")
    calls = reward.calls[1:]
    ratios = sorted(seen / told for seen, told in calls)
    print(
        f"{len(calls)} calls of {given.batch} completions: seen {median(c[0] for c in calls) * 1000:.1f} ms, "
        f"told {median(c[1] for c in calls) * 1000:.1f} ms, ratio median {median(ratios):.3f}, "
        f"{ratios[0]:.3f} – {ratios[-1]:.3f}; of sums {sum(c[0] for c in calls) / sum(c[1] for c in calls):.3f}"
    )


if __name__ == "__main__":
    main()
