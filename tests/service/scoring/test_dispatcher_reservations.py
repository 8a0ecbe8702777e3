"""Requests of several trees: in as a whole or not at all, counted once, never lost, never computed twice."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_client.errors import DeadlineExceeded, EngineFailed, Overloaded, TooManyTokens, Unavailable
from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.admission import QueueLimits
from opera_service.scoring.dispatcher import Done
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder
from opera_service.scoring.tree_dispatcher import TreeDispatcher

VOCAB = 4000


def tree(first: int, length: int = 3) -> TokenTree:
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [first, *range(1, length)]), [7])
    return builder.build()


class Stepped:
    """An engine that computes one batch per permit and remembers what; trees in `bad` fail their batch."""

    def __init__(self, *, permits: int = 0) -> None:
        self.computed: Counter[int] = Counter()
        self.bad: set[int] = set()
        self.permits = asyncio.Semaphore(permits)
        self.engine = DummyEngine(VOCAB)

    async def __call__(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        await self.permits.acquire()
        firsts = [int(one.tokens[0]) for one in trees]
        if self.bad & set(firsts):
            raise RuntimeError("kernel fault")
        self.computed.update(firsts)
        return await self.engine.score(trees)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_all_trees_of_a_request_join_or_none():
    engine = Stepped()
    scheduler = TreeDispatcher(engine, 3, limits=QueueLimits(max_tokens=6))
    busy = asyncio.create_task(scheduler.score(tree(0)))
    await settle()
    with scheduler.reserve("run") as reservation:
        let_in = asyncio.create_task(scheduler.answer_all([tree(1), tree(2)], reservation=reservation))
        await settle()
        assert (scheduler.queued_requests, scheduler.queued_items, scheduler.queued_tokens) == (1, 2, 6)
        with pytest.raises(Overloaded), scheduler.reserve("run") as other:
            await scheduler.answer_all([tree(3)], reservation=other)
        assert (scheduler.queued_requests, scheduler.queued_items) == (1, 2)
        for _ in range(3):
            engine.permits.release()
        assert len(await let_in) == 2
    await busy
    with pytest.raises(TooManyTokens), scheduler.reserve("new") as other:
        await scheduler.answer_all([tree(3), tree(4), tree(5)], reservation=other)
    assert engine.computed == {0: 1, 1: 1, 2: 1}
    assert (scheduler.queued_requests, scheduler.queued_tokens) == (0, 0)


async def test_what_was_let_in_may_come_again():
    """Trees that have to be scored on newer weights belong to work that was admitted: nobody refuses them."""
    engine = Stepped(permits=100)
    scheduler = TreeDispatcher(engine, 100, limits=QueueLimits(max_tokens=6))
    with scheduler.reserve() as reservation:
        await scheduler.answer_all([tree(0), tree(1)], reservation=reservation)
        assert len(await scheduler.answer_all([tree(0), tree(1), tree(2)], reservation=reservation)) == 3


async def test_a_reservation_is_given_back_whatever_happens():
    scheduler = TreeDispatcher(Stepped(), 3, limits=QueueLimits(max_requests=1))
    with pytest.raises(ZeroDivisionError), scheduler.reserve():
        1 / scheduler.queued_items
    assert scheduler.queued_requests == 0
    with scheduler.reserve(), pytest.raises(Overloaded), scheduler.reserve():
        pass


async def test_nothing_to_score_is_answered_even_while_closing():
    scheduler = TreeDispatcher(Stepped(), 3)
    with scheduler.reserve() as reservation:
        await scheduler.aclose()
        assert await scheduler.answer_all([], reservation=reservation) == []
    with pytest.raises(Unavailable) as raised, scheduler.reserve():
        pass
    assert raised.value.retry_after >= 1


async def test_late_trees_are_counted_as_expired_and_those_in_time_keep_their_scores():
    engine, drops = Stepped(), []
    scheduler = TreeDispatcher(engine, 3, on_drop=lambda reason, count: drops.append((reason, count)))
    loop = asyncio.get_running_loop()
    asked = asyncio.create_task(scheduler.answer_all([tree(0), tree(1), tree(2)], deadline=loop.time() + 0.1))
    await settle()
    engine.permits.release()
    first, second, third = await asked
    assert isinstance(first, Done)
    assert isinstance(second, DeadlineExceeded)
    assert isinstance(third, DeadlineExceeded)
    assert drops == [("expired", 1)], "the second was on the engine"
    assert scheduler.queued_items == 0
    engine.permits.release()
    await scheduler.aclose()


async def test_the_measured_rate_is_that_of_the_batches():
    now = [0.0]
    engine = DummyEngine(VOCAB)

    async def timed(trees: Sequence[TokenTree]) -> list[TreeScores]:
        now[0] += 2.0
        return await engine.score(trees)

    scheduler = TreeDispatcher(timed, 100, clock=lambda: now[0])
    assert scheduler.drain_rate is None
    await scheduler.answer_all([tree(0, 10), tree(1, 10)])
    assert scheduler.drain_rate == pytest.approx(10.0)


requests = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.lists(st.integers(1, 9), min_size=1, max_size=4),  # sizes of its trees
        st.sampled_from(["stay", "stay", "leave", "bad"]),
        st.integers(0, 3),  # batches computed before it comes
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=examples(60), deadline=None)
@given(requests, st.integers(1, 20), st.integers(1, 6), st.integers(9, 60))
def test_no_work_is_lost_or_done_twice(script: list[tuple], budget: int, most: int, tokens: int):
    async def play() -> None:
        engine = Stepped()
        scheduler = TreeDispatcher(engine, budget, limits=QueueLimits(most, tokens))
        numbers = iter(range(10, VOCAB))
        tasks: list[tuple[asyncio.Task, list[int], str]] = []

        async def ask(run: str, trees: list[TokenTree]) -> list:
            with scheduler.reserve(run, about=sum(one.num_tokens for one in trees)) as reservation:
                return await scheduler.answer_all(trees, reservation=reservation)

        for run, sizes, fate, batches in script:
            for _ in range(batches):
                engine.permits.release()
            await settle()
            names = [next(numbers) for _ in sizes]
            if fate == "bad":
                engine.bad.add(names[0])
            trees = [tree(name, size) for name, size in zip(names, sizes, strict=True)]
            tasks.append((asyncio.create_task(ask(run, trees)), names, fate))
            await settle()
            if fate == "leave":
                tasks[-1][0].cancel()
        for _ in range(500):
            engine.permits.release()
        outcomes = await asyncio.gather(*(task for task, _, _ in tasks), return_exceptions=True)
        assert max(engine.computed.values(), default=1) == 1, "nothing is computed twice"
        for outcome, (_, names, fate) in zip(outcomes, tasks, strict=True):
            if isinstance(outcome, list):
                for name, scored in zip(names, outcome, strict=True):
                    if name in engine.bad:
                        assert isinstance(scored, EngineFailed)
                    else:
                        assert len(scored.answer.logprobs) == 1
                        assert engine.computed[name] == 1
            else:
                assert isinstance(outcome, Overloaded | TooManyTokens) or fate == "leave"
                if isinstance(outcome, Overloaded | TooManyTokens):
                    assert not any(engine.computed[name] for name in names), "refused work costs nothing"
        assert (scheduler.queued_requests, scheduler.queued_items, scheduler.queued_tokens) == (0, 0, 0)
        await scheduler.aclose()

    asyncio.run(play())
