"""The weight gate and the token budget, step by step on one event loop."""

from __future__ import annotations

import asyncio

import pytest

from opera_service.engines.vllm.read_write_lock import ReadWriteLock, TokenBudget


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_swap_waits_for_users_and_keeps_new_ones_out():
    gate, events, leave = ReadWriteLock(), [], asyncio.Event()

    async def use(name: str, until: asyncio.Event | None) -> None:
        async with gate.using():
            events.append(name)
            if until:
                await until.wait()

    async def swap() -> None:
        async with gate.swapping():
            events.append("swap")

    first, second = (asyncio.create_task(use(name, leave)) for name in ("a", "b"))
    await settle()
    swapping = asyncio.create_task(swap())
    await settle()
    late = asyncio.create_task(use("late", None))
    await settle()
    assert events == ["a", "b"]
    leave.set()
    await asyncio.gather(first, second, swapping, late)
    assert events == ["a", "b", "swap", "late"]


async def test_a_failed_swap_opens_the_gate():
    gate = ReadWriteLock()
    with pytest.raises(RuntimeError):
        async with gate.swapping():
            raise RuntimeError
    async with asyncio.timeout(1), gate.using():
        pass


async def test_a_cancelled_user_does_not_hold_up_a_swap():
    gate = ReadWriteLock()

    async def use() -> None:
        async with gate.using():
            await asyncio.sleep(60)

    task = asyncio.create_task(use())
    await settle()
    task.cancel()
    async with asyncio.timeout(1), gate.swapping():
        pass


async def test_the_budget_is_never_exceeded_and_is_first_in_first_out():
    budget, order, most = TokenBudget(10), [], 0

    async def work(name: int, tokens: int) -> None:
        nonlocal most
        async with budget.hold(tokens):
            order.append(name)
            most = max(most, budget.in_flight)
            await asyncio.sleep(0)

    sizes = [4, 6, 9, 1, 25, 3, 3, 3, 3]
    await asyncio.gather(*(work(name, tokens) for name, tokens in enumerate(sizes)))
    assert order == list(range(len(sizes)))
    assert most == 10
    assert budget.in_flight == 0


async def test_cancelled_waiters_give_their_turn_to_the_next():
    budget = TokenBudget(10)

    async def work(tokens: int) -> None:
        async with budget.hold(tokens):
            pass

    async with budget.hold(8):
        big, small = asyncio.create_task(work(9)), asyncio.create_task(work(2))
        await settle()
        assert not small.done()  # behind the big one
        big.cancel()
        await settle()
        assert small.done()
        lucky = asyncio.create_task(work(5))
        await settle()
    lucky.cancel()  # its turn came in the same breath
    await settle()
    assert budget.in_flight == 0
