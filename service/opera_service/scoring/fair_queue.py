"""Which waiting trees the engine gets next: one pure, synchronous queue with an injected clock.

Runs take turns by tokens (deficit round robin, Shreedhar and Varghese 1995); within a run, first in, first out.
It knows token counts, run names and deadlines; no asyncio, no engine, no tree.
"""

from __future__ import annotations

from collections import OrderedDict
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
    run: str = ""
    """Whose turn it is served in."""
    owner: object = None
    """The request it is a part of; works without one are requests of their own."""


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(frozen=True)
class Selection(Generic[AnyWork]):
    """What one look at the queue decided; all of it has left the queue."""

    batch: list[AnyWork] = field(default_factory=list)
    """To compute now, together; empty only when nothing waits."""
    expired: list[AnyWork] = field(default_factory=list)
    """Dropped: the deadline has passed."""


class _Run(Generic[AnyWork]):
    """What one run has waiting, and the tokens that it may still send in its turn."""

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.works: OrderedDict[AnyWork, None] = OrderedDict()
        self.tokens = 0


class FairQueue(Generic[AnyWork]):
    """Hands out batches of at most `max_batch_tokens` tokens, runs in turn.

    A run sends while its credit lasts, then the next one is up; every turn adds a quarter of a batch. While two
    runs have work waiting, neither gets more than `quantum` + twice the largest tree of tokens ahead of the other,
    and a run that has just come waits for at most one turn of each run before it. Nothing is idle meanwhile: a
    run that is alone gets everything. A tree that does not fit ends the batch and leads the next one; one over the
    budget goes alone, splitting it is the engine's business.
    """

    def __init__(self, max_batch_tokens: int, clock: Clock) -> None:
        if max_batch_tokens < 1:
            raise ValueError(f"max_batch_tokens must be at least 1, got {max_batch_tokens}")
        self.max_batch_tokens = max_batch_tokens
        self.quantum = max(1, max_batch_tokens // 4)
        self._clock = clock
        self._runs: OrderedDict[str, _Run[AnyWork]] = OrderedDict()
        """Runs with work, in the order of their turns."""
        self._owners: dict[object, int] = {}
        """Works that each request has here."""
        self.tokens = 0
        """Tokens of the trees that wait."""

    def push(self, work: AnyWork) -> None:
        """Queue `work` behind its run's other work; a run that had none has its turn after all others."""
        run = self._runs.setdefault(work.run, _Run(self.quantum))
        run.works[work] = None
        run.tokens += work.tokens
        self.tokens += work.tokens
        owner = work if work.owner is None else work.owner
        self._owners[owner] = self._owners.get(owner, 0) + 1

    def remove(self, work: AnyWork) -> bool:
        """Take `work` away, wherever it stands; return whether it was here."""
        run = self._runs.get(work.run)
        if run is None or work not in run.works:
            return False
        del run.works[work]
        run.tokens -= work.tokens
        self.tokens -= work.tokens
        if not run.works:
            del self._runs[work.run]  # with its credit: an absent run saves up nothing
        owner = work if work.owner is None else work.owner
        self._owners[owner] -= 1
        if not self._owners[owner]:
            del self._owners[owner]
        return True

    def __len__(self) -> int:
        """Trees that wait."""
        return sum(len(run.works) for run in self._runs.values())

    @property
    def requests(self) -> int:
        """Requests of which something waits."""
        return len(self._owners)

    @property
    def runs(self) -> int:
        """Runs of which something waits."""
        return len(self._runs)

    def tokens_of(self, run: str) -> int:
        """Tokens that `run` has waiting."""
        return self._runs[run].tokens if run in self._runs else 0

    def take(self) -> Selection[AnyWork]:
        """Remove and return the next batch, and what has expired on the way to it."""
        now, budget, taken = self._clock(), self.max_batch_tokens, Selection[AnyWork]()
        while self._runs:
            name, run = next(iter(self._runs.items()))
            head = next(iter(run.works))
            if head.deadline is not None and head.deadline <= now:
                taken.expired.append(head)
            elif head.tokens > run.credit:
                run.credit += self.quantum  # for its next turn
                self._runs.move_to_end(name)
                continue
            elif head.tokens <= budget or not taken.batch:
                taken.batch.append(head)
                budget -= head.tokens
                run.credit -= head.tokens
            else:
                break
            self.remove(head)
        return taken
