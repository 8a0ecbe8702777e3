"""What the adapter costs: the time TRL waits for a batch's rewards over the service's own total for that batch.

    opera-reward serve --port 8000 &
    python benchmarks/trl_overhead.py --url http://127.0.0.1:8000

Batches of each size in turn, so that what else the machine does meets them alike.

Needs `pip install 'opera-reward[server,trl]'`. Real GRPOTrainer on the embedded model, as examples/trl_grpo.py.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from opera_adapters.trl import OperaReward
from opera_client import AsyncRewardClient
from opera_client.wire import RewardResult
from opera_demo import model_path
from opera_demo.world import tasks


class Call(NamedTuple):
    """One batch, in seconds."""

    seen: float
    """What TRL waited."""
    told: float
    """The service's own total."""
    busy: float
    """CPU time of the trainer's process meanwhile."""


class Told(AsyncRewardClient):
    """A client that remembers the service's own total of its last answer, in seconds."""

    total = 0.0

    async def reward(self, *args: Any, **kwargs: Any) -> RewardResult:
        result = await super().reward(*args, **kwargs)
        self.total = result.timing_ms.total / 1000
        return result


class Watched(GRPOTrainer):  # type: ignore[misc]  # TRL has no types
    """A trainer that notes how long it waits for its rewards, and what the service says it took."""

    def __init__(self, client: Told, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client = client
        self.calls: list[Call] = []

    def _calculate_rewards(self, *args: Any) -> Any:
        start, busy = time.perf_counter(), time.process_time()
        rewards = super()._calculate_rewards(*args)
        busy = time.process_time() - busy
        self.calls.append(Call(time.perf_counter() - start, self.client.total, busy))
        return rewards


def calls(url: str, batch: int, given: argparse.Namespace) -> list[Call]:
    """Train for some steps; return each batch but the first."""
    rows = [
        {"prompt": [{"role": "user", "content": task.question}], "reference": task.reference}
        for task in tasks("train", 64)
    ]
    client = Told(url)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Watched(
            client,
            AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32),
            reward_funcs=OperaReward(client=client),
            args=GRPOConfig(
                output_dir=folder, max_steps=given.steps + 1, per_device_train_batch_size=batch,
                num_generations=given.generations, max_completion_length=given.tokens, save_strategy="no",
                report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, seed=given.seed,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(model_path()),
        )  # fmt: skip
        trainer.train()
    given.seed += 1  # or the service answers from its cache of scores
    return trainer.calls[1:]  # the first one opens the connection


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", default="http://127.0.0.1:8000")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    options.add_argument("--generations", type=int, default=8)
    options.add_argument("--tokens", type=int, default=110)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    torch.set_num_threads(1)
    seen: dict[int, list[Call]] = {batch: [] for batch in given.batches}
    for _ in range(given.rounds):
        for batch, found in seen.items():
            found += calls(given.url, batch, given)
    for batch, found in seen.items():
        ratios = [one.seen / one.told for one in found]
        low, _, high = quantiles(ratios, n=4)
        print(
            f"{batch} completions, {len(found)} calls: seen {1000 * median(one.seen for one in found):.1f} ms, "
            f"told {1000 * median(one.told for one in found):.1f} ms, "
            f"added {1000 * median(one.seen - one.told for one in found):.1f} ms, "
            f"of which {1000 * median(one.busy for one in found):.1f} ms are the trainer's own CPU time; "
            f"ratio median {median(ratios):.3f}, quartiles {low:.3f} – {high:.3f}, "
            f"all {min(ratios):.3f} – {max(ratios):.3f}"
        )


if __name__ == "__main__":
    main()
