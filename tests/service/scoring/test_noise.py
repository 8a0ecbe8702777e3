"""The error of an engine is what company changes."""

import numpy as np
import pytest

from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.noise import measured_error
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
