"""The budget of tokens in flight, step by step on one event loop."""

from __future__ import annotations

import asyncio

from opera_service.engines.vllm.token_budget import TokenBudget


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


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
