"""Entropies and most likely tokens from the worker's logits, against transformers in float64; memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from opera_service.scoring.tree import ROOT, TreeBuilder

from .conftest import Policy
from .test_long import resident_mb

pytestmark = pytest.mark.asyncio(loop_scope="session")
NATS = 1e-4


def distributions(policy: Policy, ids: np.ndarray, start: int) -> np.ndarray:
    """log p(. | ids[:t]) for t = start … len(ids) - 1, in float64."""
    rows = policy.logits(ids)[start - 1 : len(ids) - 1].astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))


def check(policy: Policy, tree, scores, *, top: int = 0) -> None:
    for query in range(tree.num_queries):
        ids, start = tree.query_context(query)
        every = distributions(policy, ids, start)
        np.testing.assert_allclose(scores.entropies_of(query), -(np.exp(every) * every).sum(axis=1), atol=NATS)
        targets = np.take_along_axis(every, ids[start:, None].astype(np.int64), axis=1)[:, 0]
        np.testing.assert_allclose(scores.of(query), targets, atol=NATS)
        if top:
            best, logprobs = scores.top_of(query, top)
            np.testing.assert_array_equal(best, np.argsort(-every, axis=1)[:, :top])
            np.testing.assert_allclose(logprobs, -np.sort(-every, axis=1)[:, :top], atol=NATS)


@pytest.mark.parametrize("top", [0, 4])
async def test_a_response_and_references_inside_it(engine, old, top):
    """Longer than one step of vLLM (1,024 tokens), so that rows come in pieces; cold, then from the cache."""
    rng = np.random.default_rng(31 + top)
    builder = TreeBuilder()
    prompt = builder.extend(ROOT, rng.integers(0, 512, 40))
    response, reference = rng.integers(0, 512, 1500), rng.integers(0, 512, 7)
    builder.score(prompt, response, entropy=True, top=top)
    for bound in (1, 63, 64, 900, 1500):
        builder.score(builder.extend(prompt, response[:bound]), reference)
    tree = builder.build()
    for _ in range(2):
        (scores,) = await engine.score([tree])
        check(old, tree, scores, top=top)
    assert engine.health().gauges["vllm_rescored_prompts"] == 0


async def test_of_those_who_ask_and_nobody_else(engine, old, group):
    trees = [group(200 + n, prompt=20 + n, cuts=[[40, 90], [70]], reference=8) for n in range(8)]
    asked = [TreeBuilder() for _ in trees]
    for tree, builder in zip(trees, asked, strict=True):  # the same prompts, with entropies
        for query in range(tree.num_queries):
            ids, start = tree.query_context(query)
            builder.score(builder.extend(ROOT, ids[:start]), ids[start:], entropy=True)
    both = [*trees, *(builder.build() for builder in asked)]
    answers = await asyncio.gather(*(engine.score([tree]) for tree in both))
    for tree, (scores,) in zip(both, answers, strict=True):
        assert old.error(tree, scores) < NATS
        assert (scores.entropies is not None) == tree.want_entropy
        if tree.want_entropy:
            check(old, tree, scores)
    # In one call, equal prompts are asked once, for both.
    plain, rich = await engine.score([trees[0], both[8]])
    np.testing.assert_array_equal(plain.logprobs, rich.logprobs)
    assert rich.tokens_computed == 0


async def test_entropies_of_recomputed_prompts(running, old):
    from opera_service.engines.vllm.plan import Prompt

    ids = np.random.default_rng(41).integers(0, 512, 150).astype(np.int32)
    core = running.running()
    prompt = Prompt(ids, start=90, top=2, entropy=True)
    cached, whole = await core.score(prompt), await core.score(prompt, recompute=True)
    assert whole.computed == 150
    every = distributions(old, ids, 90)
    for rows in (cached, whole):
        np.testing.assert_allclose(rows.entropies, -(np.exp(every) * every).sum(axis=1), atol=NATS)
        np.testing.assert_array_equal(rows.top_ids, np.argsort(-every, axis=1)[:, :2])


async def test_new_weights_give_new_entropies(engine, new):
    ids = np.random.default_rng(43).integers(0, 512, 100)
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, ids[:10]), ids[10:], entropy=True)
    tree = builder.build()
    await engine.score([tree])
    await engine.load_weights(new.path, "new")
    (scores,) = await engine.score([tree])
    check(new, tree, scores)


async def test_memory_grows_with_the_rows_not_with_the_vocabulary(tmp_path: Path):
    """A step's rows at once would be 2,048 x 131,072 x 4 bytes, for the logits and for their softmax: 2 GiB."""
    from opera_service.engines.vllm.engine import VllmEngine

    vocabulary = 131_072
    policy = Policy.make(tmp_path / "wide", seed=6, layers=2, heads=2, vocab_size=vocabulary)
    engine = await VllmEngine.load(
        policy.path, dtype="float32", max_model_len=4096, enforce_eager=True, max_num_batched_tokens=2048
    )
    try:
        ids = np.random.default_rng(47).integers(0, vocabulary, 2_100)
        builder = TreeBuilder()
        builder.score(builder.extend(ROOT, ids[:20]), ids[20:], entropy=True)
        tree = builder.build()
        before, peak, scoring = resident_mb(), 0.0, asyncio.create_task(engine.score([tree]))
        while not scoring.done():
            peak = max(peak, resident_mb())
            await asyncio.sleep(0.02)
        (scores,) = await scoring
        print(f"grew by {peak - before:.0f} MB")
        assert peak - before < 400
        start = len(ids) - 64
        every = distributions(policy, ids, start)
        np.testing.assert_allclose(scores.entropies_of(0)[-64:], -(np.exp(every) * every).sum(axis=1), atol=NATS)
    finally:
        await engine.aclose()
