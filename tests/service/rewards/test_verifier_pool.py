"""One group's hostile answers cost that group; others have their verdicts."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.verifier import Question, Verifier
from opera_service.rewards.verifier_pool import VerifierPool

from ..until import until


def hanging(number: int) -> Question:
    return Question(rf"\boxed{{{number}}}", r"\boxed{9^{9^{9^{9}}}}")


def right(number: int) -> Question:
    return Question(rf"\boxed{{{number}}}", rf"\boxed{{{2 * number}/2}}")


def children() -> set[str]:
    """Processes that this one has started."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread may have ended by now
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture
async def pool():
    made = VerifierPool(2, deadline_s=2.0, group_budget_s=8.0)
    await made.verdicts([[right(1), right(2)]])  # both processes have started
    yield made
    await made.aclose()


async def test_processes_that_nobody_asks_end_and_start_again():
    pool = VerifierPool(2, idle_s=0.5)
    before = children()

    def workers() -> set[str]:
        return children() - before

    await pool.verdicts([[right(1), right(2)]])
    assert len(workers()) == 2
    await until(lambda: not workers(), every_s=0.05)
    assert await pool.verdicts([[right(3)]]) == {right(3): True}
    assert len(workers()) == 1
    await pool.aclose()
    assert not workers()


async def test_every_question_has_a_verdict(pool):
    wrong = Question(r"\boxed{3}", r"\boxed{4}")
    found = await pool.verdicts([[right(3), wrong], [right(3)], []])
    assert found == {right(3): True, wrong: False}


async def test_equal_questions_are_asked_once(pool, monkeypatch):
    asked = []
    equal = Verifier.equal
    monkeypatch.setattr(Verifier, "equal", lambda self, question: asked.append(question) or equal(self, question))
    await pool.verdicts([[right(5)] * 20])
    await pool.verdicts([[right(5)], [right(5)]])
    assert asked == [right(5)]


async def test_an_answer_that_came_too_late_is_asked_once_more(monkeypatch):
    pool, asked, fails = VerifierPool(1), [], 1

    def equal(_: Verifier, question: Question) -> bool:
        asked.append(question)
        if len(asked) <= fails:
            raise OutcomeUnavailable("math-verify gave no answer within 5 s")
        return True

    monkeypatch.setattr(Verifier, "equal", equal)
    assert isinstance((await pool.verdicts([[right(1)]]))[right(1)], OutcomeUnavailable)
    for _ in range(2):
        assert await pool.verdicts([[right(1)]]) == {right(1): True}
    assert len(asked) == 2
    fails = 100
    for _ in range(4):
        assert isinstance((await pool.verdicts([[right(2)]]))[right(2)], OutcomeUnavailable)
    assert len(asked) == 4, "it hangs whenever it is asked: no third time"
    await pool.aclose()


async def test_a_group_of_hostile_answers_uses_up_its_budget_and_no_more():
    pool = VerifierPool(2, deadline_s=1.0, group_budget_s=4.0)
    started = time.monotonic()
    found = await pool.verdicts([[hanging(number) for number in range(24)]], run="hostile")
    await pool.aclose()
    assert len(found) == 24
    assert all(isinstance(one, OutcomeUnavailable) for one in found.values())
    assert sum("to verify; this one was not" in str(one) for one in found.values()) >= 16
    assert time.monotonic() - started < 24 * 2.0, "one after the other they would take longer"


@pytest.mark.slow  # waits for deadlines
async def test_another_run_has_its_turn_while_a_hostile_one_waits(pool):
    hostile = asyncio.create_task(
        pool.verdicts([[hanging(10 * group + number) for number in range(6)] for group in range(6)], run="hostile")
    )
    await asyncio.sleep(0.2)
    honest = await pool.verdicts([[right(number) for number in range(10, 14)]], run="honest")
    assert set(honest.values()) == {True}
    assert not hostile.done(), "the honest run did not wait for all hostile answers"
    hostile.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hostile


async def test_a_deadline_is_kept_while_waiting(pool):
    busy = asyncio.create_task(pool.verdicts([[hanging(number) for number in range(6)]], run="hostile"))
    await asyncio.sleep(0.1)
    found = await pool.verdicts([[right(7)]], run="hurried", deadline=time.monotonic() + 0.2)
    assert isinstance(found[right(7)], OutcomeUnavailable)
    busy.cancel()
    assert (await pool.verdicts([[right(7)]])) == {right(7): True}, "what was not told is not remembered"
