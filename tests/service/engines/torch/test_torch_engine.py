"""The engine as others see it: loaded from a folder, asynchronous, one device thread, typed errors."""

import asyncio
import threading

import numpy as np
import pytest

from opera_client.errors import EngineFailed, EngineOutOfMemory, TokenOutOfVocabulary, Unavailable
from opera_service.engines.base import GenerationRequest
from opera_service.engines.torch import TorchEngine
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.scoring.tree import ROOT, TreeBuilder, as_ids


@pytest.fixture
def engine(lab) -> TorchEngine:
    return TorchEngine(TreeScorer(lab.load("qwen3")))


async def test_a_folder_becomes_an_engine(lab, tmp_path):
    model = lab.make_model("qwen3")
    model.save_pretrained(tmp_path / "tiny")
    engine = TorchEngine.load(tmp_path / "tiny", dtype="float64", weight_version="v7", max_batch_tokens=50)
    info = engine.info
    assert (info.engine, info.model, info.weight_version, info.dtype) == ("torch", "tiny", "v7", "float64")
    assert (info.vocab_size, info.max_context, info.max_batch_tokens, info.route) == (89, 256, 50, "tree_sdpa")
    tree = lab.group_tree()
    (scores,) = await engine.score([tree])
    np.testing.assert_allclose(scores.logprobs, lab.oracle_logprobs(model, tree), rtol=0, atol=1e-10)
    assert scores.weight_version == "v7"
    generations = await engine.generate([GenerationRequest(as_ids([1, 2]), n=2, max_tokens=3)])
    assert [len(each) for each in generations] == [2]
    assert engine.health().ok
    assert engine.health().gauges["memory_bytes"] > 0
    await engine.aclose()


async def test_concurrent_calls_share_one_thread_and_leave_the_loop_free(lab, engine):
    threads = set()
    engine.scorer.loaded.model.lm_head.register_forward_hook(
        lambda *_: threads.add(threading.current_thread().name)
    )
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    trees = [lab.group_tree(seed=seed) for seed in range(4)]
    answers = await asyncio.gather(*(engine.score([tree]) for tree in trees))
    ticker.cancel()
    for tree, (scores,) in zip(trees, answers, strict=True):
        assert scores.query_start is tree.query_start
    assert len(threads) == 1
    assert ticks > 10
    await engine.aclose()


async def test_a_defect_becomes_engine_failed_and_shows_in_health_until_work_succeeds(lab, engine):
    layer = engine.scorer.loaded.model.base_model.layers[0]
    honest = layer.forward

    def broken(*args, **kwargs):
        raise ZeroDivisionError("a kernel fell over")

    layer.forward = broken
    with pytest.raises(EngineFailed, match="ZeroDivisionError: a kernel fell over"):
        await engine.score([lab.edge_tree()])
    assert not engine.health().ok
    assert "fell over" in engine.health().detail
    layer.forward = honest
    await engine.score([lab.edge_tree()])
    assert engine.health().ok
    await engine.aclose()


async def test_memory_that_ends_while_sampling_is_typed(engine):
    layer = engine.scorer.loaded.model.base_model.layers[0]

    def full(*args, **kwargs):
        raise MemoryError

    layer.forward = full
    with pytest.raises(EngineOutOfMemory):
        await engine.generate([GenerationRequest(as_ids([1, 2]))])
    await engine.aclose()


async def test_a_bad_tree_does_not_make_the_engine_ill(lab, engine):
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [1000]), [1])
    with pytest.raises(TokenOutOfVocabulary):
        await engine.score([builder.build()])
    assert engine.health().ok
    await engine.aclose()


async def test_closing_finishes_work_in_hand_and_refuses_more(lab, engine):
    work = asyncio.create_task(engine.score([lab.group_tree()]))
    await asyncio.sleep(0)
    await engine.aclose()
    assert len((await work)[0].logprobs) > 0
    with pytest.raises(Unavailable, match="closed"):
        await engine.score([lab.edge_tree()])
    assert not engine.health().ok
