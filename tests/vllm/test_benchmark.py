"""The benchmark's numbers on the one running engine: the targets that do not depend on the machine."""

from __future__ import annotations

import pytest

from opera_service.engines.torch.engine import TorchEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")
NATS = 1e-4


@pytest.fixture
def torch(old) -> TorchEngine:
    return TorchEngine.load(old.path, dtype="float32", route="tree_sdpa")


async def test_tokens_against_prompt_logprobs(engine, torch):
    from scoring_vllm import AGAIN, COLD, DEFAULT, TORCH, measure

    row = await measure(engine, torch, (1, 4, 1600, 20), rounds=1)
    ways = row.figures()["ways"]
    assert ways[DEFAULT]["tokens"] == row.naive
    assert ways[TORCH]["tokens"] == row.distinct
    assert 1 <= ways[COLD]["per_distinct"] <= 1.15
    assert ways[AGAIN]["per_distinct"] <= 0.15
    assert max(way["difference"] for way in ways.values()) < NATS


async def test_a_repeat_over_http_computes_nothing(engine, torch):
    from scoring_served import compare

    served = await compare(engine, torch, (2, 4, 512, 64))
    assert served.computed <= 1.15 * served.distinct
    assert served.computed_again == 0
    assert served.logprob_difference < NATS
    assert served.reward_difference < NATS
