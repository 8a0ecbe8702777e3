"""Part (a): are the routes right on this device, and what does flex cost to compile?

The same weights in float64, float32 and bfloat16; each route's log-probabilities against plain forwards
(`naive`) in float64 and float32. Batches are larger than the token budget, so kept keys are tested, too. Then the
engine's own tests that need a GPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from gpu.models import Twins, ragged_tree
from gpu.part import Part
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.scoring.tree import TokenTree

ROUTES = ("naive", "flex", "tree_sdpa", "kv_fork")
FLOAT32_LIMIT, TIMES_NAIVE = 2e-5, 1.2
"""Targets: nats off in float32; in bfloat16 the mean error over that of plain bfloat16 forwards."""


def main() -> int:
    part = Part("exactness")
    measure_exactness(part, "full attention", {})
    if part.has(15):
        measure_exactness(part, "sliding windows", {"sliding_window": 20 if part.dry else 300})
    if part.has(10):
        measure_compilation(part)
    failed = run_tests(part) if part.has(5) else 0
    part.finish()
    return failed


def config(part: Part, **changes: Any) -> transformers.PretrainedConfig:
    """Return a Qwen3 with heads of the 8B shape; windows in every second layer where `sliding_window` is given."""
    layers = 2 if part.dry else 8
    size = 64 if part.dry else 1024
    if changes:
        kinds = ["sliding_attention", "full_attention"] * (layers // 2)
        changes |= {"use_sliding_window": True, "layer_types": kinds}
    return transformers.Qwen3Config(
        num_hidden_layers=layers,
        hidden_size=size,
        intermediate_size=3 * size,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=16 if part.dry else 128,
        vocab_size=512 if part.dry else 32768,
        max_position_embeddings=8192,
        initializer_range=0.06,  # sharper distributions than the default's
        tie_word_embeddings=False,
        **changes,
    )


def measure_exactness(part: Part, name: str, windows: dict[str, Any]) -> None:
    """Add a row for every dtype and route."""
    twins = Twins(config(part, **windows), part.device)
    double = twins.of(torch.float64)
    length, budget = (40, 128) if part.dry else (1800, 2048)
    trees = [ragged_tree(double.vocab_size, length, seed) for seed in ((1,) if part.dry else (1, 2))]
    exact = answers(TreeScorer(double, route="naive", max_batch_tokens=budget), trees)
    single = twins.of(torch.float32)
    plain = answers(TreeScorer(single, route="naive", max_batch_tokens=budget), trees)
    for dtype, loaded in ((torch.bfloat16, twins.of(torch.bfloat16)), (torch.float32, single)):
        naive = None
        for route in ROUTES:
            began = time.perf_counter()
            found = answers(TreeScorer(loaded, route=route, max_batch_tokens=budget), trees)
            off = np.abs(found - exact)
            naive = off.mean() if naive is None else naive
            half = dtype == torch.bfloat16
            part.add(
                "exactness",
                model=name,
                dtype=loaded.dtype,
                route=route,
                mean_off_float64=float(off.mean()),
                most_off_float64=float(off.max()),
                most_off_float32=float(np.abs(found - plain).max()),
                times_naive=float(off.mean() / naive),
                met=bool(off.mean() <= TIMES_NAIVE * naive if half else off.max() <= FLOAT32_LIMIT),
                seconds=time.perf_counter() - began,
            )


def answers(scorer: TreeScorer, trees: Sequence[TokenTree]) -> np.ndarray:
    return np.concatenate([scores.logprobs for scores in scorer.score(trees)])


def measure_compilation(part: Part) -> None:
    """Add a row for each of some new lengths: the first call, which compiles a kernel, and the next one."""
    loaded = Twins(config(part), part.device).of(torch.bfloat16)
    scorer = TreeScorer(loaded, route="flex")
    for length in (30,) if part.dry else (700, 5000, 9000):
        tree = ragged_tree(loaded.vocab_size, length, seed=3)
        part.wait()
        times = []
        for _ in range(2):
            began = time.perf_counter()
            scorer.score([tree])
            times.append(time.perf_counter() - began)
        part.add("compilation", tokens=tree.num_tokens, first_s=times[0], again_s=times[1])


def run_tests(part: Part) -> int:
    """Run the engine's tests that need a GPU, in this process; the exit code is pytest's."""
    import pytest  # only here: without it all but the tests can be measured

    counts = _Counts()
    tests = Path(__file__).parents[2] / "tests" / "service" / "engines" / "torch" / "test_on_device.py"
    some = ["-k", "pushed or greedy"] if part.dry else []
    code = pytest.main([str(tests), *some, "-q", "-p", "no:cacheprovider", "-W", "ignore"], plugins=[counts])
    part.add("tests", passed=counts.passed, failed=counts.failed, skipped=counts.skipped, exit_code=int(code))
    return int(code)


class _Counts:
    """Counts what became of the tests."""

    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.passed += report.when == "call" and report.passed
        self.failed += report.failed
        self.skipped += report.skipped


if __name__ == "__main__":
    sys.exit(main())
