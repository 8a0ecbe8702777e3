"""What a dispatcher of anything does: here of words, which weigh their letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from opera_client.errors import DeadlineExceeded, EngineFailed, Overloaded
from opera_service.scoring.admission import QueueLimits
from opera_service.scoring.dispatcher import Dispatcher, Done


class Engine:
    """Spells words backwards, when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.batches: list[list[str]] = []
        self.broken_off = 0

    async def __call__(self, words: Sequence[str]) -> list[str]:
        self.batches.append(list(words))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        return [word[::-1] for word in words]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_answers_and_what_is_wrong_with_them():
    engine = Engine()
    engine.gate.set()
    dispatcher: Dispatcher[str, str] = Dispatcher(
        engine, 100, tokens=len, problem=lambda word, _: EngineFailed("no") if word == "bad" else None
    )
    good, bad = await dispatcher.answer_all(["good", "bad"])
    assert isinstance(good, Done)
    assert good.answer == "doog"
    assert isinstance(bad, EngineFailed)


async def test_a_batch_that_nobody_waits_for_is_broken_off_where_that_is_wanted():
    for breaks_off in (False, True):
        engine = Engine()
        dispatcher: Dispatcher[str, str] = Dispatcher(engine, 4, tokens=len, breaks_off=breaks_off)
        leaving = [asyncio.create_task(dispatcher.answer_all([word])) for word in ("ab", "cd")]
        await settle()
        assert engine.batches == [["ab", "cd"]]
        staying = asyncio.create_task(dispatcher.answer_all(["ef"]))
        leaving[0].cancel()
        await settle()
        assert engine.broken_off == 0, "one is still waited for"
        leaving[1].cancel()
        await settle()
        assert engine.broken_off == breaks_off
        assert engine.batches[1:] == ([["ef"]] if breaks_off else [])
        engine.gate.set()
        ((done,),) = await asyncio.gather(staying)
        assert isinstance(done, Done)
        assert dispatcher.running_items == dispatcher.running_tokens == 0


async def test_a_deadline_on_the_engine_breaks_off_and_says_so():
    engine = Engine()
    dispatcher: Dispatcher[str, str] = Dispatcher(engine, 4, tokens=len, breaks_off=True)
    (late,) = await dispatcher.answer_all(["ab"], deadline=asyncio.get_running_loop().time() + 0.02)
    await settle()
    assert isinstance(late, DeadlineExceeded)
    assert engine.broken_off == 1


async def test_two_lines_share_the_limits_and_nothing_else():
    engine, limits = Engine(), QueueLimits(max_requests=1)
    one: Dispatcher[str, str] = Dispatcher(engine, 2, tokens=len, limits=limits)
    other: Dispatcher[str, str] = Dispatcher(engine, 2, tokens=len, limits=limits, beside=one)
    tasks = [asyncio.create_task(one.answer_all([word])) for word in ("ab", "cd")]
    await settle()
    assert (one.queued_requests, other.queued_requests) == (1, 0)
    for dispatcher in (one, other):
        with pytest.raises(Overloaded) as refused, dispatcher.reserve():
            pass
        assert refused.value.reason == "queue_requests"
    engine.gate.set()
    await asyncio.gather(*tasks)
    with one.reserve():
        pass
