"""Who may join the queue: bounds in requests and tokens, room for runs that hold little, deadlines.

A refusal says when to come back, by the rate at which the engine drains the queue. Pure and synchronous, with an
injected clock; the counts are the queue's own. It knows no tree, no engine, no HTTP.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from opera_client.errors import Overloaded, TooManyTokens
from opera_service.retry_after import LEAST_WAIT_S, DrainRate, seconds_to_wait
from opera_service.scoring.fair_queue import Clock, FairQueue, Work

_MARGIN = 0.8
"""Work is admitted when it should be done within this part of the time it has left."""
_PROMISES = 1024
"""Refused runs that are remembered."""


@dataclass(frozen=True)
class QueueLimits:
    """What may wait for the engine at a time."""

    max_requests: int = 1024
    max_tokens: int = 32 * 2**20

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could ever be admitted."""
        for name in ("max_requests", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(eq=False)
class Reservation:
    """One request's place, taken before its trees are known; until they are queued it counts as `tokens`."""

    run: str
    tokens: int
    weighed: bool = False
    """Its trees have been admitted."""
    comes_back: bool = True
    """Whether it is sent again when it was refused."""


class _Promise(NamedTuple):
    """Room that is kept for a run that was refused, for a little longer than it was asked to wait."""

    tokens: int
    """0 once it has come."""
    until: float
    owed: float
    """Tokens of all that was sent away and is yet to come back, as of `since`."""
    since: float


class _Room(NamedTuple):
    requests: int
    tokens: int


class Admission:
    """The admission check of one queue.

    * No more than the limits may wait. What has been admitted is finished: it is never put out again.
    * A refused run is promised room. Until it comes back for it, or is late, runs that hold more than it does,
      in the queue and on the engine, leave that much free, so that a full queue ends up shared equally and nobody
      starves there.
    * Work whose deadline cannot be met behind what waits already is refused at once, rather than computed late.
    * Each refusal is told to wait until there is room for it and for those of its run that were sent away before:
      callers that do as told come back one after the other, not all at once, and a run whose callers do not only
      makes itself wait.
    """

    def __init__(
        self, queue: FairQueue[Any], limits: QueueLimits, clock: Clock, *, beside: Admission | None = None
    ) -> None:
        """The limits bound what waits here and what waits `beside` together; all else is each check's own."""
        self.queue, self.limits = queue, limits
        self._sharing: list[Admission] = [self] if beside is None else beside._sharing  # noqa: SLF001
        if beside is not None:
            self._sharing.append(self)
        self._clock = clock
        self._drain = DrainRate()
        self._entering: set[Reservation] = set()
        self._promises: OrderedDict[str, _Promise] = OrderedDict()
        self._running: Counter[str] = Counter()
        """Tokens that each run has on the engine."""
        self._running_since = 0.0

    # --- what is held ------------------------------------------------------------------------------------

    @property
    def held(self) -> _Room:
        """Requests and tokens that wait, or are about to."""
        claimed = sum(reservation.tokens for reservation in self._entering)
        return _Room(self.queue.requests + len(self._entering), self.queue.tokens + claimed)

    @property
    def _held_by_all(self) -> _Room:
        rooms = [check.held for check in self._sharing]
        return _Room(sum(room.requests for room in rooms), sum(room.tokens for room in rooms))

    @property
    def rate(self) -> float | None:
        """Tokens per second that the engine computes; None before its first batch."""
        tokens, seconds = self._on_engine()
        usual = self._drain.per_second()
        if usual is None or seconds * usual <= tokens:
            return usual
        return self._drain.per_second(amount=tokens, seconds=seconds)  # a batch that takes long counts already

    # --- events ------------------------------------------------------------------------------------------

    def enter(self, run: str, about: int, deadline: float | None, *, comes_back: bool = True) -> Reservation:
        """Take a place for a request of `about` so many tokens. Raises `Overloaded`; `leave` must follow.

        No room is promised to one that is refused and never `comes_back`.
        """
        about = min(max(about, 1), self.limits.max_tokens)
        self._check(run, about, deadline, comes_back)
        if run in self._promises:  # it has come for its room
            self._promises[run] = self._promises[run]._replace(tokens=0)
        reservation = Reservation(run, about, comes_back=comes_back)
        self._entering.add(reservation)
        return reservation

    def weigh(self, reservation: Reservation, tokens: int, deadline: float | None) -> None:
        """Let the request's trees in, whose sizes are known now; they must be queued before anything else happens.

        Raises `TooManyTokens` when they would not fit into an empty queue, `Overloaded`.
        """
        self.leave(reservation)
        if tokens > self.limits.max_tokens:
            raise TooManyTokens(
                f"the request has {tokens} distinct tokens to compute, and {self.limits.max_tokens} may wait at a "
                "time (--max-queue-tokens); send fewer groups or items at once"
            )
        if tokens:
            self._check(reservation.run, tokens, deadline, reservation.comes_back)
        reservation.weighed = True

    def leave(self, reservation: Reservation) -> None:
        """Give the place back, if it is still held."""
        self._entering.discard(reservation)

    def started(self, batch: Sequence[Work]) -> None:
        """These trees went to the engine."""
        for work in batch:
            self._running[work.run] += work.tokens
        self._running_since = self._clock()

    def finished(self, *, well: bool) -> None:
        """The batch is done."""
        tokens, seconds = self._on_engine()
        self._running.clear()
        if well:
            self._drain.add(tokens, seconds)

    # --- rules -------------------------------------------------------------------------------------------

    def _check(self, run: str, tokens: int, deadline: float | None, comes_back: bool) -> None:
        """Raise `Overloaded` unless a request of `tokens` may join."""
        refusal = partial(self._refusal, run, tokens, comes_back)
        held, limits = self._held_by_all, self.limits
        if held.requests + 1 > limits.max_requests:
            over = (held.requests + 1 - limits.max_requests) * held.tokens / held.requests
            raise refusal(over, "queue_requests", f"{held.requests} requests are waiting")
        if held.tokens + tokens > limits.max_tokens:
            over = held.tokens + tokens - limits.max_tokens
            raise refusal(over, "queue_tokens", f"{held.tokens} tokens are waiting")
        promised = self._promised(run)
        if (
            held.requests + 1 + promised.requests > limits.max_requests
            or held.tokens + tokens + promised.tokens > limits.max_tokens
        ):
            over = tokens + promised.tokens
            raise refusal(over, "fair_share", "the room left is for runs that hold less of it")
        if deadline is not None and (late := self._late(run, tokens, deadline)) > 0:
            raise refusal(late, "deadline", "what waits already takes longer than the time left")

    def _refusal(self, run: str, tokens: int, comes_back: bool, over: float, reason: str, why: str) -> Overloaded:
        now, rate = self._clock(), self.rate
        runs = len(self._promises.keys() | {run})  # they come back in turn
        before, owed = self._promises.get(run), 0.0
        if before is not None:
            owed = max(0.0, before.owed - (rate or 0.0) * (now - before.since) / runs)
        wait = seconds_to_wait(over + runs * owed, rate)
        if comes_back:
            self._promises[run] = _Promise(tokens, now + 2 * wait + LEAST_WAIT_S, owed + tokens, now)
            self._promises.move_to_end(run)
        while len(self._promises) > _PROMISES:
            self._promises.popitem(last=False)
        error = Overloaded(f"{why}; come back in {wait:.0f} s, or send less at once")
        error.reason, error.retry_after = reason, wait
        return error

    def _promised(self, run: str) -> _Room:
        """Return the room that `run` has to leave: promised to runs that hold less than it does."""
        now = self._clock()
        for other in [name for name, promise in self._promises.items() if promise.until <= now]:
            del self._promises[other]
        if not self._promises:
            return _Room(0, 0)
        beside = self._claims() + self._running
        own = self.queue.tokens_of(run) + beside[run]
        theirs = [
            promise.tokens
            for name, promise in self._promises.items()
            if promise.tokens and name != run and self.queue.tokens_of(name) + beside[name] < own
        ]
        return _Room(len(theirs), sum(theirs))

    def _claims(self) -> Counter[str]:
        """Return the tokens that each run is about to queue."""
        claims: Counter[str] = Counter()
        for reservation in self._entering:
            claims[reservation.run] += reservation.tokens
        return claims

    def _late(self, run: str, tokens: int, deadline: float) -> float:
        """Return how many tokens too many are before a request to meet its deadline; 0 or less when it can.

        A run with k others beside it gets its turn every k + 1 quanta, whatever else they have waiting.
        """
        rate = self.rate
        if rate is None:
            return 0.0
        computed, seconds = self._on_engine()
        own = self.queue.tokens_of(run) + self._claims()[run]
        runs = self.queue.runs + (self.queue.tokens_of(run) == 0)
        before = min(self.held.tokens, runs * (own + self.queue.quantum)) + max(0.0, computed - seconds * rate)
        return before + tokens - _MARGIN * rate * (deadline - self._clock()) if before else 0.0

    def _on_engine(self) -> tuple[int, float]:
        """Return the tokens that are computed now, and for how many seconds."""
        tokens = sum(self._running.values())
        return tokens, self._clock() - self._running_since if tokens else 0.0
