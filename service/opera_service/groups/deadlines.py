"""When somebody's wait is over: a heap of waiters that forgets the answered ones.

Knows waiters and times; nothing of groups.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic

from opera_service.groups.group import Answer, Content, Waiter


class Deadlines(Generic[Content, Answer]):
    """Waiters by deadline. Done waiters are dropped when met, or when they outnumber the others."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiter[Content, Answer]]] = []
        self._order = count()
        self._sweep_at = 64

    def __len__(self) -> int:
        """Waiters held, done ones that were not met yet included."""
        return len(self._heap)

    def push(self, waiter: Waiter[Content, Answer]) -> None:
        """Remember `waiter` until its deadline."""
        heapq.heappush(self._heap, (waiter.deadline, next(self._order), waiter))
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if not entry[2].done]
            heapq.heapify(self._heap)
            self._sweep_at = max(64, 2 * len(self._heap))

    def pop_due(self, now: float) -> list[Waiter[Content, Answer]]:
        """Remove and return the waiting waiters whose deadline is not after `now`, earliest first."""
        due: list[Waiter[Content, Answer]] = []
        while self._heap and self._heap[0][0] <= now:
            waiter = heapq.heappop(self._heap)[2]
            if not waiter.done:
                due.append(waiter)
        return due

    @property
    def next(self) -> float | None:
        """The earliest deadline somebody still waits for."""
        while self._heap and self._heap[0][2].done:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
