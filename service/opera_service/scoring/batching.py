"""Which waiting trees the engine gets next: one pure, synchronous queue with an injected clock.

First in, first out, up to a token budget. Work nobody waits for any more is dropped here, and reported.
It knows token counts and deadlines; no asyncio, no engine, no tree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Clock = Callable[[], float]
"""Seconds on any monotonic scale; deadlines are on the same one."""


@dataclass(eq=False)
class Work:
    """One tree that waits for the engine."""

    tokens: int
    """Distinct tree tokens."""
    deadline: float | None = None
    """Not worth starting at or after this time."""
    closed: bool = False
    """Set by whoever waited for it and gave up."""


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(frozen=True)
class Selection(Generic[AnyWork]):
    """What one look at the queue decided; all of it has left the queue."""

    batch: list[AnyWork] = field(default_factory=list)
    """To compute now, together; empty only when nothing waits."""
    expired: list[AnyWork] = field(default_factory=list)
    """Dropped: the deadline has passed."""
    abandoned: list[AnyWork] = field(default_factory=list)
    """Dropped: nobody waits."""


class BatchQueue(Generic[AnyWork]):
    """A first-in-first-out queue that hands out batches of at most `max_batch_tokens` tokens.

    Nothing overtakes: a tree that does not fit ends the batch and leads the next one, so none can starve.
    A tree over the budget goes alone; splitting it is the engine's business.
    """

    def __init__(self, max_batch_tokens: int, clock: Clock) -> None:
        if max_batch_tokens < 1:
            raise ValueError(f"max_batch_tokens must be at least 1, got {max_batch_tokens}")
        self._max_batch_tokens = max_batch_tokens
        self._clock = clock
        self._waiting: deque[AnyWork] = deque()

    def push(self, work: AnyWork) -> None:
        """Queue `work` at the end."""
        self._waiting.append(work)

    def __len__(self) -> int:
        """Trees that somebody waits for."""
        return sum(not work.closed for work in self._waiting)

    @property
    def tokens(self) -> int:
        """Tokens of the trees that somebody waits for."""
        return sum(work.tokens for work in self._waiting if not work.closed)

    def take(self) -> Selection[AnyWork]:
        """Remove and return the next batch, and everything dropped on the way to it."""
        now, budget, taken = self._clock(), self._max_batch_tokens, Selection[AnyWork]()
        while self._waiting:
            head = self._waiting[0]
            if head.closed:
                taken.abandoned.append(head)
            elif head.deadline is not None and head.deadline <= now:
                taken.expired.append(head)
            elif head.tokens <= budget or not taken.batch:
                taken.batch.append(head)
                budget -= head.tokens
            else:
                break
            self._waiting.popleft()
        return taken
