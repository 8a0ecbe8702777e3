"""When somebody's wait is over: a heap of tickets that forgets the answered ones.

Knows tickets and times; nothing of groups.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic

from opera_service.groups.group import Answer, Content, Ticket


class Deadlines(Generic[Content, Answer]):
    """Tickets by deadline. Done tickets are dropped when met, or when they outnumber the others."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket[Content, Answer]]] = []
        self._order = count()
        self._sweep_at = 64

    def __len__(self) -> int:
        """Tickets held, done ones that were not met yet included."""
        return len(self._heap)

    def push(self, ticket: Ticket[Content, Answer]) -> None:
        """Remember `ticket` until its deadline."""
        heapq.heappush(self._heap, (ticket.deadline, next(self._order), ticket))
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if not entry[2].done]
            heapq.heapify(self._heap)
            self._sweep_at = max(64, 2 * len(self._heap))

    def pop_due(self, now: float) -> list[Ticket[Content, Answer]]:
        """Remove and return the waiting tickets whose deadline is not after `now`, earliest first."""
        due: list[Ticket[Content, Answer]] = []
        while self._heap and self._heap[0][0] <= now:
            ticket = heapq.heappop(self._heap)[2]
            if not ticket.done:
                due.append(ticket)
        return due

    @property
    def next(self) -> float | None:
        """The earliest deadline somebody still waits for."""
        while self._heap and self._heap[0][2].done:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
