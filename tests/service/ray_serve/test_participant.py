"""A replica's leave to serve counts from its question: by the answer, others may have gone on without it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from opera_service.ray_serve.ledger import Beat, Order
from opera_service.ray_serve.participant import Participant

from ..app import runtime_on

LEASE_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowCoordinator:
    """Grants a lease once, four seconds after it was asked; then it says nothing more."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.asked = clock, 0

    async def hear(self, _: Beat) -> Order:
        self.asked += 1
        if self.asked > 1:
            await asyncio.Event().wait()
        self.clock.now += 4.0
        return Order("stay", LEASE_S)


@pytest.fixture
async def participant() -> AsyncIterator[tuple[Participant, Clock]]:
    clock, runtime = Clock(), runtime_on()
    made = Participant("a", runtime.engine, runtime.weights, SlowCoordinator(clock).hear, clock)
    await made.join()
    yield made, clock
    await made.aclose()
    await runtime.aclose()


async def test_the_lease_counts_from_the_question(participant):
    replica, clock = participant
    assert (clock.now, replica.may_serve) == (104.0, True)
    clock.now = 109.9
    assert replica.may_serve
    clock.now = 110.0
    assert not replica.may_serve
