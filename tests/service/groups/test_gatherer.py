"""The asyncio shell, with real tasks and short real waits."""

import asyncio
import random
import time
from collections.abc import Mapping

import pytest

from opera_client.errors import EngineFailed, GroupIncomplete, InternalError, Unavailable
from opera_service.groups.gatherer import GroupGatherer
from opera_service.groups.group import GroupBatch
from opera_service.groups.limits import GroupLimits

from ..until import until
from .conftest import by_name, submission


class Scorer:
    """Scores when its gate is open, fails as told, and remembers every batch."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[set[str]] = []
        self.failures: list[Exception] = []

    async def __call__(self, batch: GroupBatch[str, str]) -> Mapping[str, str]:
        self.batches.append(set(batch.members))
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop()
        return by_name(batch)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_members_of_many_groups_meet_each_other_and_nobody_else():
    scorer = Scorer()
    desk = GroupGatherer(scorer)
    submissions = [submission(member, f"g{group}", size=4) for group in range(50) for member in "abcd"]
    random.Random(0).shuffle(submissions)
    answers = await asyncio.gather(*(desk.join(one) for one in submissions))
    assert answers == [f"{one.member_id} of a b c d" for one in submissions]
    assert scorer.batches == [set("abcd")] * 50


async def test_a_wait_ends_by_the_clock_alone():
    desk = GroupGatherer(Scorer())
    assert await desk.join(submission("a", wait_s=0.01)) == "a of a"
    with pytest.raises(GroupIncomplete):
        await desk.join(submission("a", "other", wait_s=0.01, on_timeout="error"))


async def test_an_earlier_wait_rings_before_a_later_one_that_was_set_first():
    desk = GroupGatherer(Scorer())
    patient = asyncio.create_task(desk.join(submission("a", "g1", wait_s=60)))
    await settle()
    assert await desk.join(submission("a", "g2", wait_s=0.01)) == "a of a"
    patient.cancel()


async def test_a_cancelled_caller_keeps_its_place_for_the_retry():
    desk = GroupGatherer(Scorer())
    gone = asyncio.create_task(desk.join(submission("a")))
    await settle()
    gone.cancel()
    await settle()
    assert await desk.join(submission("b")) == "b of a b"
    assert await desk.join(submission("a")) == "a of a b"


async def test_a_caller_cancelled_in_the_moment_of_its_answer_does_no_harm():
    scorer = Scorer()
    desk = GroupGatherer(scorer)
    scorer.gate.clear()
    gone, other = (asyncio.create_task(desk.join(submission(name, wait_s=1000))) for name in "ab")
    await settle()
    scorer.gate.set()
    gone.cancel()
    async with asyncio.timeout(60):  # else it would hang, not fail
        assert await other == "b of a b"
    assert await desk.join(submission("a")) == "a of a b"


async def test_a_caller_that_was_cancelled_ends_no_wait():
    scorer = Scorer()
    desk = GroupGatherer(scorer)
    gone = asyncio.create_task(desk.join(submission("a", wait_s=0.5)))
    await settle()
    gone.cancel()
    await asyncio.sleep(0.6)
    assert scorer.batches == []


async def test_a_failure_reaches_each_caller_as_its_own_exception_and_a_retry_scores_again():
    scorer = Scorer()
    desk = GroupGatherer(scorer)
    error = EngineFailed("no")
    error.retry_after = 3.0
    scorer.failures = [error]
    first, second = await asyncio.gather(*(desk.join(submission(name)) for name in "ab"), return_exceptions=True)
    assert first is not second
    for raised in (first, second):
        assert isinstance(raised, EngineFailed)
        assert (raised.message, raised.retry_after) == ("no", 3.0)
    assert await desk.join(submission("a")) == "a of a b"
    assert scorer.batches == [{"a", "b"}] * 2


async def test_a_defect_in_scoring_is_an_internal_error_and_stays_in_the_log(caplog):
    scorer = Scorer()
    desk = GroupGatherer(scorer)
    scorer.failures = [ZeroDivisionError("secret")]
    with pytest.raises(InternalError) as raised:
        await desk.join(submission("a", size=1))
    assert "secret" not in str(raised.value)
    assert "secret" in caplog.text


async def test_after_closing_no_clock_rings():
    asked = []
    desk = GroupGatherer(Scorer(), clock=lambda: asked.append(time.monotonic()) or asked[-1])
    await desk.aclose()  # without a timer that there could be
    desk = GroupGatherer(Scorer(), clock=lambda: asked.append(time.monotonic()) or asked[-1])
    waiting = asyncio.create_task(desk.join(submission("a", wait_s=0.02)))
    await settle()
    await desk.aclose()
    with pytest.raises(Unavailable):
        await waiting
    so_far = len(asked)
    await asyncio.sleep(0.05)
    assert len(asked) == so_far


async def test_closing_finishes_what_is_scored_and_refuses_the_rest():
    scorer = Scorer()
    desk = GroupGatherer(scorer)
    scorer.gate.clear()
    scored = asyncio.create_task(desk.join(submission("a", "full", size=1)))
    waiting = asyncio.create_task(desk.join(submission("a", "half")))
    await settle()
    closing = asyncio.create_task(desk.aclose())
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await desk.join(submission("b", "half"))
    assert not closing.done()
    scorer.gate.set()
    assert await scored == "a of a"
    await closing


async def test_groups_expire_without_anybody_asking():
    desk = GroupGatherer(Scorer(), GroupLimits(idle_s=0.01))
    with pytest.raises(GroupIncomplete):
        await desk.join(submission("a", wait_s=0, on_timeout="error"))
    await until(lambda: desk.state.waiting_groups == 0)
    assert desk.state.counts.expired == 1


async def test_when_all_is_forgotten_it_sleeps_without_an_alarm(caplog):
    """The loop logs what a timer raises, and nobody else hears of it."""
    desk = GroupGatherer(Scorer(), GroupLimits(idle_s=0.05))
    gone = asyncio.create_task(desk.join(submission("a", wait_s=0.02, on_timeout="error")))
    with pytest.raises(GroupIncomplete):
        await gone
    await until(lambda: desk.state.next_event is None)
    await asyncio.sleep(0.05)
    assert caplog.text == ""
