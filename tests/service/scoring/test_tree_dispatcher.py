"""The asyncio shell, on the dummy engine and on small hand-made engines."""

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace

import numpy as np
import pytest

from opera_client.errors import DeadlineExceeded, EngineFailed, EngineOutOfMemory, Unavailable
from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.dispatcher import BatchReport
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder
from opera_service.scoring.tree_dispatcher import TreeDispatcher


def tree(first: int, length: int = 3) -> TokenTree:
    """A tree of `length` tokens that starts with `first`."""
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [first, *range(1, length)]), [7])
    return builder.build()


class Gate:
    """An engine that records its batches and answers only when opened."""

    def __init__(self, *, open: bool = False) -> None:  # noqa: A002
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        if open:
            self.gate.set()
        self.engine = DummyEngine(50)
        self.bad: dict[int, Exception] = {}

    async def __call__(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        firsts = [int(one.tokens[0]) for one in trees]
        self.batches.append(firsts)
        await self.gate.wait()
        for first in firsts:
            if first in self.bad:
                raise self.bad[first]
        return await self.engine.score(trees)


async def settle() -> None:
    """Let every task that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_scores_are_the_engines():
    engine = DummyEngine(50)
    scheduler = TreeDispatcher(engine.score, 100)
    scored = await scheduler.score(tree(3))
    (direct,) = await engine.score([tree(3)])
    assert scored.answer.logprobs == pytest.approx(direct.logprobs)
    assert scored.queue_ms >= 0


async def test_concurrent_requests_share_a_batch_and_wait_while_the_engine_is_busy():
    engine = Gate()
    scheduler = TreeDispatcher(engine, 9)
    tasks = [asyncio.create_task(scheduler.score(tree(first))) for first in range(5)]
    await settle()
    assert engine.batches == [[0, 1, 2]]
    assert (scheduler.queued_items, scheduler.queued_tokens) == (2, 6)
    engine.gate.set()
    answers = await asyncio.gather(*tasks)
    assert engine.batches == [[0, 1, 2], [3, 4]]
    assert (scheduler.queued_items, scheduler.queued_tokens) == (0, 0)
    expected = await engine.engine.score([tree(first) for first in range(5)])
    for answer, direct in zip(answers, expected, strict=True):
        assert answer.answer.logprobs == pytest.approx(direct.logprobs)


async def test_cancelled_requests_never_reach_the_engine_and_are_reported():
    engine, drops = Gate(), []
    scheduler = TreeDispatcher(engine, 3, on_drop=lambda reason, count: drops.append((reason, count)))
    first, second, third = (asyncio.create_task(scheduler.score(tree(i))) for i in range(3))
    await settle()
    second.cancel()
    await settle()
    assert scheduler.queued_items == 1
    engine.gate.set()
    await asyncio.gather(first, third)
    assert engine.batches == [[0], [2]]
    assert drops == [("abandoned", 1)]
    assert second.cancelled()


async def test_cancelling_a_request_on_the_engine_hurts_nobody():
    engine = Gate()
    scheduler = TreeDispatcher(engine, 100)
    first, second = (asyncio.create_task(scheduler.score(tree(i))) for i in range(2))
    await settle()
    first.cancel()
    engine.gate.set()
    (direct,) = await engine.engine.score([tree(1)])
    assert (await second).answer.logprobs == pytest.approx(direct.logprobs)
    assert first.cancelled()


async def test_a_deadline_is_answered_at_once_although_the_engine_is_busy():
    engine = Gate()
    scheduler = TreeDispatcher(engine, 3)
    running = asyncio.create_task(scheduler.score(tree(0)))
    await settle()
    with pytest.raises(DeadlineExceeded):
        await scheduler.score(tree(1), deadline=time.monotonic() + 0.01)
    engine.gate.set()
    await running
    await scheduler.aclose()
    assert engine.batches == [[0]]


async def test_work_that_expires_on_an_injected_clock_is_dropped_by_the_queue():
    now = [0.0]
    engine, drops = Gate(), []
    scheduler = TreeDispatcher(
        engine, 3, clock=lambda: now[0], on_drop=lambda reason, count: drops.append((reason, count))
    )
    running = asyncio.create_task(scheduler.score(tree(0)))
    waiting = asyncio.create_task(scheduler.score(tree(1), deadline=1000.0))
    await settle()
    now[0] = 1000.0
    engine.gate.set()
    await running
    with pytest.raises(DeadlineExceeded):
        await waiting
    assert drops == [("expired", 1)]
    assert engine.batches == [[0]]


async def test_one_bad_tree_fails_alone():
    engine = Gate(open=True)
    engine.bad = {1: EngineOutOfMemory("too big"), 3: RuntimeError("kernel fault")}
    reports: list[BatchReport] = []
    scheduler = TreeDispatcher(engine, 100, on_batch=reports.append)
    answers = await asyncio.gather(*(scheduler.score(tree(i)) for i in range(4)), return_exceptions=True)
    assert engine.batches == [[0, 1, 2, 3], [0], [1], [2], [3]]
    assert isinstance(answers[1], EngineOutOfMemory)
    assert isinstance(answers[3], EngineFailed)
    assert "RuntimeError" in str(answers[3])
    for good in (0, 2):
        (direct,) = await engine.engine.score([tree(good)])
        assert answers[good].answer.logprobs == pytest.approx(direct.logprobs)
    assert [report.error for report in reports] == [
        "engine_out_of_memory", None, "engine_out_of_memory", None, "engine_failed",
    ]  # fmt: skip


async def test_a_request_given_up_in_a_failing_batch_is_not_tried_alone():
    engine = Gate()
    engine.bad = {0: RuntimeError("kernel fault")}
    scheduler = TreeDispatcher(engine, 100)
    tasks = [asyncio.create_task(scheduler.score(tree(first))) for first in range(3)]
    await settle()
    tasks[1].cancel()
    await settle()
    engine.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert engine.batches == [[0, 1, 2], [0], [2]]
    assert isinstance(answers[0], EngineFailed)
    assert len(answers[2].answer.logprobs) == 1


async def test_the_scheduler_works_on_after_a_failure():
    engine = Gate(open=True)
    engine.bad = {1: RuntimeError("kernel fault")}
    scheduler = TreeDispatcher(engine, 100)
    with pytest.raises(EngineFailed):
        await scheduler.score(tree(1))
    assert len((await scheduler.score(tree(2))).answer.logprobs) == 1


async def test_numbers_go_through_as_they_are_whoever_reads_them_judges():
    engine = DummyEngine(50)

    async def poisoned(trees: Sequence[TokenTree]) -> list[TreeScores]:
        answers = await engine.score(trees)
        answers[0].logprobs[0] = np.nan
        return answers

    scheduler = TreeDispatcher(poisoned, 100)
    bad, good = await asyncio.gather(scheduler.score(tree(0)), scheduler.score(tree(1)))
    assert np.isnan(bad.answer.logprobs[0])
    assert good.answer.finite


async def test_an_engine_that_loses_a_tree_is_caught():
    engine = DummyEngine(50)

    async def short(trees: Sequence[TokenTree]) -> list[TreeScores]:
        return (await engine.score(trees))[: len(trees) - 1]

    with pytest.raises(EngineFailed):
        await TreeDispatcher(short, 100).score(tree(0))


async def test_an_engine_that_asks_no_second_model_is_caught():
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [1]), [2])
    builder.second.score(builder.second.extend(ROOT, [1]), [2])
    asked = builder.build()
    engine, beside = DummyEngine(50), []

    async def score(trees: Sequence[TokenTree]) -> list[TreeScores]:
        (own,) = await engine.score(trees)
        return [replace(own, second=beside[0])]

    (other,) = await engine.score([tree(0)])
    for second, said in (
        (None, "did not ask"),
        (replace(other, logprobs=np.zeros(2)), "2 log-prob.* for 1"),
    ):
        beside[:] = [second]
        with pytest.raises(EngineFailed, match=said):
            await TreeDispatcher(score, 100).score(asked)
    beside[:] = [other]
    assert (await TreeDispatcher(score, 100).score(asked)).answer.second is other


async def test_closing_finishes_queued_work_and_refuses_more():
    engine = Gate()
    scheduler = TreeDispatcher(engine, 3)
    tasks = [asyncio.create_task(scheduler.score(tree(i))) for i in range(3)]
    await settle()
    closing = asyncio.create_task(scheduler.aclose())
    await settle()
    with pytest.raises(Unavailable) as told:
        await scheduler.score(tree(9))
    assert told.value.retry_after == 1
    assert not closing.done()
    engine.gate.set()
    await closing
    assert [len(answer.answer.logprobs) for answer in await asyncio.gather(*tasks)] == [1, 1, 1]
    assert engine.batches == [[0], [1], [2]]


async def test_reports_name_trees_tokens_and_waits():
    reports: list[BatchReport] = []
    engine = DummyEngine(50)
    scheduler = TreeDispatcher(engine.score, 100, on_batch=reports.append)
    await asyncio.gather(scheduler.score(tree(0, 3)), scheduler.score(tree(1, 5)))
    (report,) = reports
    assert (report.items, report.tokens, len(report.queue_s), report.error) == (2, 8, 2, None)


async def test_waits_and_the_engine_s_time_are_told_by_the_clock():
    now, engine, reports = [100.0], Gate(), []
    scheduler = TreeDispatcher(engine, 3, clock=lambda: now[0], on_batch=reports.append)
    tasks = [asyncio.create_task(scheduler.score(tree(first))) for first in range(2)]
    await settle()
    now[0] = 107.0
    engine.gate.set()
    first, second = await asyncio.gather(*tasks)
    assert [(report.queue_s, report.engine_s) for report in reports] == [((0.0,), 7.0), ((7.0,), 0.0)]
    assert (first.queue_ms, second.queue_ms) == (0.0, 7000.0)


async def test_batches_run_in_no_callers_context():
    """Or a failed batch would be logged, and traced, as the request that happened to come first."""
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    seen: list[str] = []
    engine = DummyEngine(50)

    async def score(trees: Sequence[TokenTree]) -> list[TreeScores]:
        seen.append(caller.get())
        return await engine.score(trees)

    caller.set("first")
    await TreeDispatcher(score, 100).score(tree(3))
    assert seen == ["nobody"]
