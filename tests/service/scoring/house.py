"""A queue with its admission check and a clock set by hand."""

import pytest

from opera_client.errors import Overloaded
from opera_service.scoring.admission import Admission, QueueLimits, Reservation
from opera_service.scoring.fair_queue import FairQueue, Work


class House:
    """A queue with its admission check, and an engine that computes `rate` tokens a second on a hand-set clock."""

    def __init__(self, *, requests: int = 1000, tokens: int = 1000, budget: int = 100, rate: float = 10.0) -> None:
        self.now = 0.0
        self.rate = rate
        self.queue: FairQueue[Work] = FairQueue(budget, lambda: self.now)
        self.admission = Admission(self.queue, QueueLimits(requests, tokens), lambda: self.now)

    def ask(self, tokens: int, run: str = "", deadline: float | None = None) -> Reservation:
        """A request of one tree, estimated rightly."""
        reservation = self.admission.enter(run, tokens, deadline)
        self.bring(reservation, tokens, deadline)
        return reservation

    def bring(self, reservation: Reservation, tokens: int, deadline: float | None = None) -> None:
        self.admission.weigh(reservation, tokens, deadline)
        self.queue.push(Work(tokens, deadline, reservation.run, owner=reservation))

    def compute(self) -> list[Work]:
        """One batch, from start to end."""
        batch = self.queue.take().batch
        self.admission.started(batch)
        self.now += sum(work.tokens for work in batch) / self.rate
        self.admission.finished(well=True)
        return batch


def refused(house: House, tokens: int, run: str = "", deadline: float | None = None) -> Overloaded:
    with pytest.raises(Overloaded) as raised:
        house.ask(tokens, run, deadline)
    return raised.value
