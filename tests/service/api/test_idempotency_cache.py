"""Answers by Idempotency-Key, on one event loop with an injected clock."""

import asyncio

import pytest

from opera_client.errors import DeadlineExceeded, EngineFailed, IdempotencyKeyReused
from opera_service.api.idempotency import IdempotencyCache, SerializedAnswer


class Desk:
    """Computes answers only when told, and counts them; `version` serves."""

    def __init__(self, max_bytes: int = 10**6, keep_s: float = 100.0) -> None:
        self.now, self.version = 0.0, "0"
        self.open = asyncio.Event()
        self.open.set()
        self.started = self.done = 0
        self.error: Exception | None = None
        self.replays = IdempotencyCache(max_bytes, keep_s, lambda: self.version, clock=lambda: self.now)

    async def compute(self) -> SerializedAnswer:
        self.started += 1
        number, version = self.started, self.version
        await self.open.wait()
        if self.error:
            raise self.error
        self.done += 1
        return SerializedAnswer(str(number).encode(), {}, version)

    async def ask(self, name: str = "k", body: str = "b", deadline: float | None = None) -> tuple[str, bool]:
        answered, again = await self.replays.answer(name, body.encode(), self.compute, deadline=deadline)
        return answered.content.decode(), again


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_same_again_is_answered_from_memory():
    desk = Desk()
    assert await desk.ask() == ("1", False)
    assert await desk.ask() == ("1", True)
    assert await desk.ask("other") == ("2", False)
    assert desk.replays.counters() == {"idempotent_replays": 1}
    assert desk.replays.gauges() == {"idempotent_answers_kept": 2, "idempotent_answer_bytes": 2 * 1025}


async def test_another_body_under_the_same_key_is_refused():
    desk = Desk()
    await desk.ask()
    with pytest.raises(IdempotencyKeyReused) as raised:
        await desk.ask(body="other")
    assert (raised.value.status, raised.value.retryable, raised.value.field) == (422, False, "Idempotency-Key")


async def test_repeats_join_the_one_that_is_computed():
    desk = Desk()
    desk.open.clear()
    callers = [asyncio.create_task(desk.ask()) for _ in range(5)]
    await settle()
    with pytest.raises(IdempotencyKeyReused):
        await desk.ask(body="other")
    desk.open.set()
    assert await asyncio.gather(*callers) == [("1", False)] + [("1", True)] * 4
    assert desk.started == 1


async def test_a_caller_that_leaves_takes_nothing_from_those_who_stay():
    desk = Desk()
    desk.open.clear()
    first, second = (asyncio.create_task(desk.ask()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    desk.open.set()
    assert await second == ("1", True)


async def test_when_all_have_left_nothing_is_computed_for_them():
    desk = Desk()
    desk.open.clear()
    callers = [asyncio.create_task(desk.ask()) for _ in range(2)]
    await settle()
    for caller in callers:
        caller.cancel()
    await settle()
    desk.open.set()
    await settle()
    assert (desk.started, desk.done) == (1, 0)
    assert await desk.ask() == ("2", False)


async def test_errors_are_told_to_all_who_wait_and_forgotten():
    desk = Desk()
    desk.open.clear()
    desk.error = EngineFailed("lost the device")
    callers = [asyncio.create_task(desk.ask()) for _ in range(3)]
    await settle()
    desk.open.set()
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(error) for error in errors] == [EngineFailed] * 3
    assert len({id(error) for error in errors}) == 3
    desk.error = None
    assert await desk.ask(body="even another one") == ("2", False)


async def test_a_repeat_minds_its_own_deadline():
    desk = Desk()
    desk.open.clear()
    first = asyncio.create_task(desk.ask())
    await settle()
    with pytest.raises(DeadlineExceeded):
        await desk.ask(deadline=0.0)
    desk.open.set()
    assert await first == ("1", False)


async def test_answers_of_other_weights_are_none():
    desk = Desk()
    await desk.ask()
    desk.version = "1"
    assert await desk.ask() == ("2", False)
    assert await desk.ask() == ("2", True)
    desk.version = "0"
    assert await desk.ask() == ("3", False)


async def test_a_repeat_after_a_push_does_not_take_the_old_weights_answer():
    desk = Desk()
    desk.open.clear()
    first = asyncio.create_task(desk.ask())
    await settle()
    before = asyncio.create_task(desk.ask())
    await settle()
    desk.version = "1"
    after = asyncio.create_task(desk.ask())
    await settle()
    desk.open.set()
    assert await asyncio.gather(first, before, after) == [("1", False), ("1", True), ("2", False)]


async def test_answers_are_forgotten_in_time():
    desk = Desk(keep_s=10.0)
    await desk.ask()
    desk.now = 9.9
    assert await desk.ask() == ("1", True)
    desk.now = 10.0
    assert await desk.ask("other") == ("2", False)
    assert desk.replays.gauges()["idempotent_answers_kept"] == 1
    assert await desk.ask() == ("3", False)


async def test_the_oldest_leave_when_there_is_no_room():
    desk = Desk(max_bytes=2 * 1025)
    for name in "abc":
        await desk.ask(name)
    assert await desk.ask("b") == ("2", True)
    assert await desk.ask("c") == ("3", True)
    assert await desk.ask("a") == ("4", False)
    assert desk.replays.gauges() == {"idempotent_answers_kept": 2, "idempotent_answer_bytes": 2 * 1025}


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_bytes": 1024}, {"keep_s": 0.0}])
async def test_without_room_or_time_only_concurrent_repeats_are_spared(limits: dict):
    desk = Desk(**limits)
    desk.open.clear()
    callers = [asyncio.create_task(desk.ask()) for _ in range(2)]
    await settle()
    desk.open.set()
    assert await asyncio.gather(*callers) == [("1", False), ("1", True)]
    assert await desk.ask() == ("2", False)


async def test_room_for_exactly_one():
    desk = Desk(max_bytes=1025)
    await desk.ask("a")
    assert await desk.ask("a") == ("1", True)
    await desk.ask("b")
    assert await desk.ask("a") == ("3", False)
