"""The asyncio shell around admission and queue: await answers to items, one batch on the engine at a time.

While the engine is busy, items of all requests gather in the queue and leave it together. It knows sizes and
deadlines; not what an item is, nor how it is computed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from opera_client.errors import DeadlineExceeded, EngineFailed, OperaError, Unavailable
from opera_service.scoring.admission import Admission, QueueLimits, Reservation
from opera_service.scoring.fair_queue import Clock, FairQueue, Work

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Done(Generic[Answer]):
    """An item's answer and when it was computed, in milliseconds and on the dispatcher's clock."""

    answer: Answer
    queue_ms: float
    started: float
    """Clock time at which the item's batch went to the engine."""
    finished: float
    cached: bool = False
    """The answer was there already, nothing was computed."""


@dataclass(frozen=True)
class BatchReport:
    """One call of the engine, for metrics."""

    items: int
    tokens: int
    engine_s: float
    queue_s: tuple[float, ...]
    """Wait of each item."""
    error: str | None = None
    """Code of the error that ended it."""


def _ignore(*_: object) -> None:
    pass


@dataclass(eq=False, kw_only=True)
class _Job(Work, Generic[Item, Answer]):
    item: Item
    enqueued: float
    future: asyncio.Future[Done[Answer] | OperaError]
    closed: bool = False
    """Nobody waits for it any more."""

    def resolve(self, outcome: Done[Answer] | OperaError) -> None:
        if not (self.closed or self.future.done()):
            self.future.set_result(outcome)


class Dispatcher(Generic[Item, Answer]):
    """Feeds items to `compute`, at most `max_batch_tokens` tokens at a time, runs in turn.

    Must be used from one event loop. `tokens` weighs an item; `problem` finds what is wrong with its answer. With
    `breaks_off`, a batch that nobody waits for any more is cancelled; without, what is on the engine is finished.
    What waits in the dispatcher `beside` counts in the limits, too.
    `on_batch` and `on_drop` (reason, count) are told what happened.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Awaitable[list[Answer]]],
        max_batch_tokens: int,
        *,
        tokens: Callable[[Item], int],
        problem: Callable[[Item, Answer], OperaError | None] = lambda item, answer: None,  # noqa: ARG005
        breaks_off: bool = False,
        limits: QueueLimits | None = None,
        beside: Dispatcher[Any, Any] | None = None,
        clock: Clock = time.monotonic,
        on_batch: Callable[[BatchReport], None] = _ignore,
        on_drop: Callable[[str, int], None] = _ignore,
    ) -> None:
        self._compute, self._tokens, self._problem = compute, tokens, problem
        self._clock, self._breaks_off = clock, breaks_off
        self._queue: FairQueue[_Job[Item, Answer]] = FairQueue(max_batch_tokens, clock)
        other = None if beside is None else beside._admission  # noqa: SLF001
        self._admission: Admission = Admission(self._queue, limits or QueueLimits(), clock, beside=other)
        self._on_batch, self._on_drop = on_batch, on_drop
        self._batch: Sequence[_Job[Item, Answer]] = ()
        self._call: asyncio.Future[list[Answer]] | None = None
        self._pump: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def queued_requests(self) -> int:
        """Requests that wait for the engine, or are being turned into items."""
        return self._admission.held.requests

    @property
    def queued_items(self) -> int:
        """Items that wait for the engine."""
        return len(self._queue)

    @property
    def queued_tokens(self) -> int:
        return self._queue.tokens

    @property
    def running_items(self) -> int:
        """Items on the engine now."""
        return len(self._batch)

    @property
    def running_tokens(self) -> int:
        return sum(job.tokens for job in self._batch)

    @property
    def drain_rate(self) -> float | None:
        """Tokens per second that the engine computes; None before its first batch."""
        return self._admission.rate

    @contextmanager
    def reserve(
        self, run: str = "", *, about: int = 1, deadline: float | None = None, comes_back: bool = True
    ) -> Iterator[Reservation]:
        """Hold a place for a request of `about` so many tokens, before its items are known.

        Raises `Overloaded`, which says when to come back, `Unavailable` once the dispatcher is closing.
        """
        self._refuse_if_closing()
        reservation = self._admission.enter(run, about, deadline, comes_back=comes_back)
        try:
            yield reservation
        finally:
            self._admission.leave(reservation)

    async def answer_all(
        self, items: Sequence[Item], *, deadline: float | None = None, reservation: Reservation | None = None
    ) -> list[Done[Answer] | OperaError]:
        """Return the answer to each item, or its error; cancelling drops what has not started.

        `deadline` is a time of the dispatcher's clock; items that it finds waiting end in `DeadlineExceeded`. All
        items join the queue, or none: the first time that a reservation brings some, to whichever dispatcher, they
        are weighed against its limits (`TooManyTokens`, `Overloaded`); what it brings later was admitted before.
        Without a reservation nothing is refused but by `Unavailable`, once the dispatcher is closing.
        """
        if not items:
            return []
        self._refuse_if_closing()
        sizes = [self._tokens(item) for item in items]
        if reservation is not None and not reservation.weighed:
            self._admission.weigh(reservation, sum(sizes), deadline)
        loop, now = asyncio.get_running_loop(), self._clock()
        jobs = [
            _Job(
                tokens=size,
                deadline=deadline,
                run=reservation.run if reservation else "",
                owner=reservation,
                item=item,
                enqueued=now,
                future=loop.create_future(),
            )
            for item, size in zip(items, sizes, strict=True)
        ]
        for job in jobs:
            self._queue.push(job)
        if self._pump is None or self._pump.done():
            # In no request's context: what goes wrong with a batch is not the first caller's.
            self._pump = asyncio.create_task(self._serve(), name="opera-dispatcher", context=Context())
        try:
            async with asyncio.timeout(None if deadline is None else deadline - now):
                await asyncio.wait([job.future for job in jobs])
        except TimeoutError:
            self._drop("expired", jobs)
        finally:
            self._drop("abandoned", jobs)
        return [job.future.result() if job.future.done() else _too_late() for job in jobs]

    def _drop(self, reason: str, jobs: Sequence[_Job[Item, Answer]]) -> None:
        """Nobody waits for `jobs` any more: take those that have not started out of the queue."""
        for job in jobs:
            job.closed = True
        if dropped := sum(self._queue.remove(job) for job in jobs):
            self._on_drop(reason, dropped)
        if self._breaks_off and self._call is not None and all(job.closed for job in self._batch):
            self._call.cancel()

    def _refuse_if_closing(self) -> None:
        if self._closing:
            error = Unavailable("the service is shutting down; send the request to another replica")
            error.retry_after = 1.0
            raise error

    async def aclose(self) -> None:
        """Refuse new work and wait until all queued work is done."""
        self._closing = True
        if self._pump is not None:
            await self._pump

    async def _serve(self) -> None:
        """Run batches until the queue is empty."""
        while True:
            selection = self._queue.take()
            if selection.expired:
                self._on_drop("expired", len(selection.expired))
            for job in selection.expired:
                job.resolve(_too_late())
            if not selection.batch:
                return
            await self._run(selection.batch)

    async def _run(self, jobs: list[_Job[Item, Answer]]) -> None:
        """Compute `jobs` together; should that fail, one by one, so that a bad item fails alone."""
        started, error = self._clock(), None
        self._admission.started(jobs)
        try:
            answers = await self._answers(jobs)
            if len(answers) != len(jobs):
                raise EngineFailed(f"the engine answered {len(answers)} of {len(jobs)} items; see its log")
            problems = [self._problem(job.item, answer) for job, answer in zip(jobs, answers, strict=True)]
        except OperaError as raised:
            error = raised
        except Exception as raised:
            logger.exception("the engine failed on a batch of %d items", len(jobs))
            error = EngineFailed(f"the engine raised {type(raised).__name__}; see the server's log, then retry")
        finished = self._clock()
        self._admission.finished(well=error is None)
        waits = tuple(started - job.enqueued for job in jobs)
        self._on_batch(
            BatchReport(
                items=len(jobs),
                tokens=sum(job.tokens for job in jobs),
                engine_s=finished - started,
                queue_s=waits,
                error=error.code if error else None,
            )
        )
        if error is None:
            for job, wait, answer, problem in zip(jobs, waits, answers, problems, strict=True):
                job.resolve(problem or Done(answer, 1e3 * wait, started, finished))
        elif len(jobs) == 1:
            jobs[0].resolve(error)
        else:
            for job in jobs:
                if not job.closed:
                    await self._run([job])

    async def _answers(self, jobs: Sequence[_Job[Item, Answer]]) -> list[Answer]:
        """Return what the engine computes. Raises what it raises, `DeadlineExceeded` when it was broken off."""
        self._batch = jobs
        self._call = asyncio.ensure_future(self._compute([job.item for job in jobs]))
        try:
            await asyncio.wait([self._call])
            if self._call.cancelled():
                raise _too_late()
            return self._call.result()
        finally:
            self._call.cancel()
            self._batch, self._call = (), None


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before this was computed; allow more time or send less at once")
