"""Sampling through vLLM: counts, seeds, stop ids, and greedy against transformers."""

from __future__ import annotations

import numpy as np
import pytest

from opera_client.errors import ContextTooLong
from opera_service.engines.base import GenerationRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")
PROMPT = np.random.default_rng(50).integers(0, 512, 40).astype(np.int32)


async def test_greedy_follows_transformers(engine, old):
    ((one,),) = await engine.generate([GenerationRequest(PROMPT, max_tokens=12, temperature=0)])
    ids = PROMPT
    for _ in range(12):
        ids = np.append(ids, old.logits(ids)[-1].argmax()).astype(np.int32)
    np.testing.assert_array_equal(one.token_ids, ids[40:])
    assert one.finish_reason == "length"


async def test_n_branches_repeat_with_their_seed(engine):
    request = GenerationRequest(PROMPT, n=4, max_tokens=10, seed=7)
    (first,) = await engine.generate([request])
    (again,) = await engine.generate([request])
    assert [list(one.token_ids) for one in first] == [list(one.token_ids) for one in again]
    assert len({tuple(one.token_ids) for one in first}) == 4


async def test_a_stop_id_ends_the_branch_and_is_kept(engine):
    greedy = GenerationRequest(PROMPT, max_tokens=12, temperature=0)
    ((whole,),) = await engine.generate([greedy])
    stop = int(whole.token_ids[5])
    ((one,),) = await engine.generate([GenerationRequest(PROMPT, max_tokens=12, temperature=0, stop_ids=(stop,))])
    assert one.finish_reason == "stop"
    assert one.token_ids[-1] == stop
    assert list(one.token_ids) == list(whole.token_ids[: len(one.token_ids)])


async def test_too_long_is_refused(engine):
    with pytest.raises(ContextTooLong, match="max_tokens"):
        await engine.generate([GenerationRequest(PROMPT, max_tokens=2048)])
