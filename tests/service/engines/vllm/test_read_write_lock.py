"""The lock between scoring and weight swaps, step by step on one event loop."""

from __future__ import annotations

import asyncio

import pytest

from opera_service.engines.vllm.read_write_lock import ReadWriteLock


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_swap_waits_for_users_and_keeps_new_ones_out():
    lock, events, leave = ReadWriteLock(), [], asyncio.Event()

    async def use(name: str, until: asyncio.Event | None) -> None:
        async with lock.using():
            events.append(name)
            if until:
                await until.wait()

    async def swap() -> None:
        async with lock.swapping():
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
    lock = ReadWriteLock()
    with pytest.raises(RuntimeError):
        async with lock.swapping():
            raise RuntimeError
    async with asyncio.timeout(1), lock.using():
        pass


async def test_a_cancelled_user_does_not_hold_up_a_swap():
    lock = ReadWriteLock()

    async def use() -> None:
        async with lock.using():
            await asyncio.sleep(60)

    task = asyncio.create_task(use())
    await settle()
    task.cancel()
    async with asyncio.timeout(1), lock.swapping():
        pass
