"""The asyncio shell around admission and queue: await the scores of trees, one batch on the engine at a time.

While the engine is busy, trees of all requests gather in the queue and leave it together. It knows trees and
deadlines; no reward, no text, no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass

from opera_client.errors import DeadlineExceeded, EngineFailed, OperaError, Unavailable
from opera_service.scoring.admission import Admission, QueueLimits, Seat
from opera_service.scoring.batching import BatchQueue, Clock, Work
from opera_service.scoring.tree import TokenTree, TreeScores

logger = logging.getLogger(__name__)

ScoreTrees = Callable[[Sequence[TokenTree]], Awaitable[list[TreeScores]]]


@dataclass(frozen=True)
class Scored:
    """A tree's scores and when they were computed, in milliseconds and on the scheduler's clock."""

    scores: TreeScores
    queue_ms: float
    started: float
    """Clock time at which the tree's batch went to the engine."""
    finished: float
    cached: bool = False
    """The numbers were there already, nothing was computed."""

    @property
    def engine_ms(self) -> float:
        """How long the engine had the tree's batch."""
        return 1e3 * (self.finished - self.started)


@dataclass(frozen=True)
class BatchReport:
    """One call of the engine, for metrics."""

    trees: int
    tokens: int
    engine_s: float
    queue_s: tuple[float, ...]
    """Wait of each tree."""
    error: str | None = None
    """Code of the error that ended it."""


def _ignore(*_: object) -> None:
    pass


@dataclass(eq=False, kw_only=True)
class _Job(Work):
    tree: TokenTree
    enqueued: float
    future: asyncio.Future[Scored | OperaError]
    closed: bool = False
    """Nobody waits for it any more."""

    def resolve(self, outcome: Scored | OperaError) -> None:
        if not (self.closed or self.future.done()):
            self.future.set_result(outcome)


class Scheduler:
    """Feeds trees to `score_trees`, at most `max_batch_tokens` tokens at a time, runs in turn.

    Must be used from one event loop. `on_batch` and `on_drop` (reason, count) are told what happened.
    """

    def __init__(
        self,
        score_trees: ScoreTrees,
        max_batch_tokens: int,
        *,
        limits: QueueLimits | None = None,
        clock: Clock = time.monotonic,
        on_batch: Callable[[BatchReport], None] = _ignore,
        on_drop: Callable[[str, int], None] = _ignore,
    ) -> None:
        self._score_trees = score_trees
        self._clock = clock
        self._queue: BatchQueue[_Job] = BatchQueue(max_batch_tokens, clock)
        self._admission = Admission(self._queue, limits or QueueLimits(), clock)
        self._on_batch, self._on_drop = on_batch, on_drop
        self._pump: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def queued_requests(self) -> int:
        """Requests that wait for the engine, or are being turned into trees."""
        return self._admission.held.requests

    @property
    def queued_trees(self) -> int:
        """Trees that wait for the engine."""
        return len(self._queue)

    @property
    def queued_tokens(self) -> int:
        """Their tokens."""
        return self._queue.tokens

    @property
    def drain_rate(self) -> float | None:
        """Tokens per second that the engine computes; None before its first batch."""
        return self._admission.rate

    @contextmanager
    def seat(self, run: str = "", *, about: int = 1, deadline: float | None = None) -> Iterator[Seat]:
        """Hold a place for a request of `about` so many tokens, before its trees are known.

        Raises `Overloaded`, which says when to come back, `Unavailable` once the scheduler is closing.
        """
        self._refuse_if_closing()
        seat = self._admission.enter(run, about, deadline)
        try:
            yield seat
        finally:
            self._admission.leave(seat)

    async def score(self, tree: TokenTree, *, deadline: float | None = None, seat: Seat | None = None) -> Scored:
        """Return the scores of `tree`; see `score_all`."""
        (outcome,) = await self.score_all([tree], deadline=deadline, seat=seat)
        if isinstance(outcome, OperaError):
            raise outcome
        return outcome

    async def score_all(
        self, trees: Sequence[TokenTree], *, deadline: float | None = None, seat: Seat | None = None
    ) -> list[Scored | OperaError]:
        """Return the scores of each tree, or its error; cancelling drops what has not started.

        `deadline` is a time of the scheduler's clock; trees that it finds waiting end in `DeadlineExceeded`. All
        trees join the queue, or none: the first time that a seat brings some, they are weighed against the limits
        (`TooManyTokens`, `Overloaded`); what it brings later belongs to work that was let in. Without a seat
        nothing is refused but by `Unavailable`, once the scheduler is closing.
        """
        if not trees:
            return []
        self._refuse_if_closing()
        if seat is not None and not seat.weighed:
            self._admission.weigh(seat, sum(tree.num_tokens for tree in trees), deadline)
        loop, now = asyncio.get_running_loop(), self._clock()
        jobs = [
            _Job(
                tokens=tree.num_tokens,
                deadline=deadline,
                run=seat.run if seat else "",
                owner=seat,
                tree=tree,
                enqueued=now,
                future=loop.create_future(),
            )
            for tree in trees
        ]
        for job in jobs:
            self._queue.push(job)
        if self._pump is None or self._pump.done():
            # In no request's context: what goes wrong with a batch is not the first caller's.
            self._pump = asyncio.create_task(self._serve(), name="opera-scheduler", context=Context())
        try:
            async with asyncio.timeout(None if deadline is None else deadline - now):
                await asyncio.wait([job.future for job in jobs])
        except TimeoutError:
            self._drop("expired", jobs)
        finally:
            self._drop("abandoned", jobs)
        return [job.future.result() if job.future.done() else _too_late() for job in jobs]

    def _drop(self, reason: str, jobs: Sequence[_Job]) -> None:
        """Nobody waits for `jobs` any more: take those that have not started out of the queue."""
        for job in jobs:
            job.closed = True
        if dropped := sum(self._queue.remove(job) for job in jobs):
            self._on_drop(reason, dropped)

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

    async def _run(self, jobs: list[_Job]) -> None:
        """Score `jobs` together; should that fail, one by one, so that a bad tree fails alone."""
        started, error = self._clock(), None
        self._admission.started(jobs)
        try:
            answers = await self._score_trees([job.tree for job in jobs])
            if len(answers) != len(jobs):
                raise EngineFailed(f"the engine answered {len(answers)} of {len(jobs)} trees; see its log")
            problems = [_problem(job.tree, scores) for job, scores in zip(jobs, answers, strict=True)]
        except OperaError as raised:
            error = raised
        except Exception as raised:
            logger.exception("the engine failed on a batch of %d trees", len(jobs))
            error = EngineFailed(f"the engine raised {type(raised).__name__}; see the server's log, then retry")
        finished = self._clock()
        self._admission.finished(well=error is None)
        waits = tuple(started - job.enqueued for job in jobs)
        self._on_batch(
            BatchReport(
                trees=len(jobs),
                tokens=sum(job.tokens for job in jobs),
                engine_s=finished - started,
                queue_s=waits,
                error=error.code if error else None,
            )
        )
        if error is None:
            for job, wait, scores, problem in zip(jobs, waits, answers, problems, strict=True):
                job.resolve(problem or Scored(scores, 1e3 * wait, started, finished))
        elif len(jobs) == 1:
            jobs[0].resolve(error)
        else:
            for job in jobs:
                if not job.closed:
                    await self._run([job])


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before this was scored; allow more time or send less at once")


def _problem(tree: TokenTree, scores: TreeScores) -> EngineFailed | None:
    """Return an error when the numbers cannot be those of this tree."""
    if len(scores.logprobs) != tree.num_scored:
        return EngineFailed(
            f"the engine returned {len(scores.logprobs)} log-probabilities for {tree.num_scored} targets"
        )
    return None
