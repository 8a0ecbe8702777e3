"""A tree three times as large as the prefix cache: a response of 32k tokens, 64 boundaries, a reference of 1k."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from opera_service.scoring.tree import ROOT, TreeBuilder

from .conftest import Policy

pytestmark = pytest.mark.asyncio
RESPONSE, BOUNDARIES, REFERENCE, PROMPT = 32_768, 64, 1024, 256
CACHE_BLOCKS = 1100  # of 32 tokens


def resident_mb() -> float:
    """Memory of this process and of all it started."""
    parents, pages = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                pages[int(folder.name)] = int((folder / "statm").read_text().split()[1])
            except OSError:
                continue  # it has just ended
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(pages.get(pid, 0) for pid in ours) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def test_it_is_scored_once_and_memory_stays(tmp_path: Path):
    from opera_service.engines.vllm.engine import VllmEngine

    policy = Policy.make(tmp_path / "long", seed=5, layers=2, heads=2, length=36_864)
    engine = await VllmEngine.load(
        policy.path,
        dtype="float32",
        max_model_len=35_000,
        enforce_eager=True,
        max_num_batched_tokens=2048,
        num_gpu_blocks_override=CACHE_BLOCKS,
    )
    try:
        rng = np.random.default_rng(9)
        ids, reference = rng.integers(0, 512, PROMPT + RESPONSE), rng.integers(0, 512, REFERENCE)
        cuts = [*sorted(rng.choice(np.arange(1, RESPONSE), BOUNDARIES - 1, replace=False)), RESPONSE]
        builder = TreeBuilder()
        middle = [builder.score(builder.extend(ROOT, ids[: PROMPT + cut]), reference) for cut in cuts][
            len(cuts) // 2
        ]
        tree = builder.build()
        assert tree.num_tokens > 2.5 * 32 * CACHE_BLOCKS
        before = resident_mb()
        (scores,) = await engine.score([tree])
        # Measured: the tables of the cache as they fill, and the logits of one step.
        assert resident_mb() - before < 1024
        assert scores.tokens_computed <= 1.15 * tree.num_tokens
        path, start = tree.query_context(middle)
        assert np.abs(scores.of(middle) - policy.logprobs(path, start)).max() < 1e-4
        assert engine.health().gauges["vllm_rescored_prompts"] == 0
    finally:
        await engine.aclose()
