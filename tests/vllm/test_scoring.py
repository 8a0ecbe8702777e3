"""Scores through vLLM's prefix cache against one plain transformers pass a query."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from opera_client.errors import ContextTooLong, TokenOutOfVocabulary
from opera_service.scoring.tree import ROOT, TreeBuilder

pytestmark = pytest.mark.asyncio(loop_scope="session")
NATS = 1e-4


async def test_ragged_group_equals_transformers(engine, old, group):
    tree = group(1, prompt=37, cuts=[[5, 71, 72, 300], [1], [64, 129, 413, 700, 701]], reference=23)
    (scores,) = await engine.score([tree])
    assert old.error(tree, scores) < NATS
    assert scores.weight_version == "0"


@pytest.mark.parametrize("block", [16, 32])
async def test_boundaries_on_cache_blocks(engine, old, group, block):
    tree = group(
        2, prompt=2 * block, cuts=[[block, 2 * block, 5 * block], [3 * block, 4 * block]], reference=block
    )
    for _ in range(2):  # cold, then with every block in the cache
        (scores,) = await engine.score([tree])
        assert old.error(tree, scores) < NATS
    assert engine.health().gauges["vllm_rescored_prompts"] == 0


async def test_a_target_of_one_token(engine, old, group):
    tree = group(3, prompt=1, cuts=[[31, 32, 33]], reference=1)
    (scores,) = await engine.score([tree])
    assert old.error(tree, scores) < NATS


async def test_context_that_is_a_prefix_of_a_cached_one(engine, old):
    ids = np.random.default_rng(4).integers(0, 512, 400)
    for context in (380, 200, 64, 60, 350, 390):
        builder = TreeBuilder()
        builder.score(builder.extend(ROOT, ids[:context]), ids[context : context + 10])
        tree = builder.build()
        (scores,) = await engine.score([tree])
        assert old.error(tree, scores) < NATS
    assert engine.health().gauges["vllm_rescored_prompts"] == 0


async def test_targets_inside_one_another(engine, old):
    """The whole sequence and its tail: one prompt, read from two places."""
    ids = np.random.default_rng(5).integers(0, 512, 150)
    builder = TreeBuilder()
    tail = builder.score(builder.extend(ROOT, ids[:100]), ids[100:])
    whole = builder.score(builder.extend(ROOT, ids[:1]), ids[1:])
    tree = builder.build()
    (scores,) = await engine.score([tree])
    assert old.error(tree, scores) < NATS
    assert len(scores.of(tail)) == 50
    assert len(scores.of(whole)) == 149
    assert scores.tokens_computed == 150


async def test_64_concurrent_calls(engine, old, group):
    trees = [group(100 + i // 4, prompt=20 + i // 4, cuts=[[40, 90], [70]], reference=8) for i in range(64)]
    answers = await asyncio.gather(*(engine.score([tree]) for tree in trees))
    assert max(old.error(tree, scores) for tree, (scores,) in zip(trees, answers, strict=True)) < NATS


async def test_tokens_computed_cold_and_on_a_repeat(engine, group):
    """The workload of one long response with eight boundaries and a short reference."""
    tree = group(6, prompt=250, cuts=[[201, 402, 603, 804, 1005, 1206, 1407, 1608]], reference=16)
    (cold,) = await engine.score([tree])
    (again,) = await engine.score([tree])
    np.testing.assert_allclose(cold.logprobs, again.logprobs, atol=NATS)
    assert tree.num_tokens <= cold.tokens_computed <= 1.15 * tree.num_tokens
    assert 0 < again.tokens_computed <= 0.15 * tree.num_tokens


async def test_the_same_tree_twice_in_a_call_is_computed_once(engine, group):
    tree = group(7, prompt=50, cuts=[[100]], reference=9)
    first, second = await engine.score([tree, tree])
    np.testing.assert_array_equal(first.logprobs, second.logprobs)
    assert second.tokens_computed == 0


async def test_most_likely_tokens(engine, old):
    ids = np.random.default_rng(8).integers(0, 512, 80)
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, ids[:64]), ids[64:])
    tree = builder.build(want_top=5)
    for _ in range(2):
        (scores,) = await engine.score([tree])
        best = np.argsort(-old.logits(ids)[63:79], axis=1)[:, :5]
        np.testing.assert_array_equal(scores.top_ids, best)
        assert old.error(tree, scores) < NATS


async def test_what_it_refuses(engine):
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [1, 512]), [3])
    with pytest.raises(TokenOutOfVocabulary, match="512"):
        await engine.score([builder.build()])
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, np.ones(engine.info.max_context)), [3])
    with pytest.raises(ContextTooLong, match="max_model_len"):
        await engine.score([builder.build()])


async def test_the_longest_context_fits(engine, old):
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, np.arange(engine.info.max_context - 1) % 512), [3])
    tree = builder.build()
    (scores,) = await engine.score([tree])
    assert old.error(tree, scores) < NATS
