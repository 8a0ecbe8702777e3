"""The error of an engine is what company changes."""

import numpy as np
import pytest

from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.noise import EngineNoise, measured_error
from opera_service.scoring.scores import TreeScores


async def test_an_exact_engine_has_no_error():
    engine = DummyEngine(259)
    assert await measured_error(engine.score, 259, 4096) == pytest.approx(0, abs=1e-12)


async def test_what_company_changes_is_the_error():
    engine = DummyEngine(259)

    async def rounded(trees):
        found = await engine.score(trees)
        return [
            TreeScores(one.logprobs + 0.1 * (tree.num_queries > 1), one.query_start, "0", one.tokens_computed)
            for tree, one in zip(trees, found, strict=True)
        ]

    assert await measured_error(rounded, 259, 64) == pytest.approx(0.1)
    assert np.isfinite(await measured_error(rounded, 259, 4096))


@pytest.mark.parametrize(
    ("dtype", "measured", "error"), [("bfloat16", 1, 0.5), ("float16", 1, 0.5), ("float32", 0, 0)]
)
async def test_only_half_precision_is_measured_and_that_once(dtype: str, measured: int, error: float):
    engine, calls = DummyEngine(259), []

    async def rounded(trees):
        calls.append([(tree.max_length, int(tree.tokens.min())) for tree in trees])
        found = await engine.score(trees)
        moved = [0.5, *[0.0] * (len(trees) - 1)]
        return [
            TreeScores(one.logprobs + by, one.query_start, "0", 1) for by, one in zip(moved, found, strict=True)
        ]

    noise = EngineNoise(rounded, dtype, vocab_size=259, max_context=50)
    assert [await noise.logprob_error() for _ in range(2)] == [pytest.approx(error)] * 2
    assert len(calls) == measured
    assert all(length <= 50 and lowest >= 0 for call in calls for length, lowest in call)
