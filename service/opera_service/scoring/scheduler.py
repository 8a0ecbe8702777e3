"""The asyncio shell around the batching queue: await a tree's scores, one batch on the engine at a time.

While the engine is busy, trees of all requests gather in the queue and leave it together. It knows trees and
deadlines; no reward, no text, no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from opera_client.errors import DeadlineExceeded, EngineFailed, OperaError, Unavailable
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
    future: asyncio.Future[Scored]

    def resolve(self, outcome: Scored | OperaError) -> None:
        if self.future.done():
            return
        if isinstance(outcome, OperaError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Scheduler:
    """Feeds trees to `score_trees`, at most `max_batch_tokens` tokens at a time.

    Must be used from one event loop. `on_batch` and `on_drop` (reason, count) are told what happened.
    """

    def __init__(
        self,
        score_trees: ScoreTrees,
        max_batch_tokens: int,
        *,
        clock: Clock = time.monotonic,
        on_batch: Callable[[BatchReport], None] = _ignore,
        on_drop: Callable[[str, int], None] = _ignore,
    ) -> None:
        self._score_trees = score_trees
        self._clock = clock
        self._queue: BatchQueue[_Job] = BatchQueue(max_batch_tokens, clock)
        self._on_batch, self._on_drop = on_batch, on_drop
        self._pump: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def queued_trees(self) -> int:
        """Trees that wait for the engine."""
        return len(self._queue)

    @property
    def queued_tokens(self) -> int:
        """Their tokens."""
        return self._queue.tokens

    async def score(self, tree: TokenTree, *, deadline: float | None = None) -> Scored:
        """Return the scores of `tree`; cancelling the caller drops the work if it has not started.

        `deadline` is a time of the scheduler's clock. Raises `DeadlineExceeded` when it passes first,
        `Unavailable` once the scheduler is closing, and whatever `OperaError` the engine has for this tree.
        """
        if self._closing:
            raise Unavailable("the service is shutting down; send the request to another replica")
        job = _Job(
            tokens=tree.num_tokens,
            deadline=deadline,
            tree=tree,
            enqueued=self._clock(),
            future=asyncio.get_running_loop().create_future(),
        )
        self._queue.push(job)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._serve(), name="opera-scheduler")
        try:
            async with asyncio.timeout(None if deadline is None else deadline - self._clock()):
                return await job.future
        except TimeoutError:
            raise _too_late() from None
        finally:
            job.closed = True

    async def aclose(self) -> None:
        """Refuse new work and wait until all queued work is done."""
        self._closing = True
        if self._pump is not None:
            await self._pump

    async def _serve(self) -> None:
        """Run batches until the queue is empty."""
        while True:
            selection = self._queue.take()
            for reason, dropped in (("expired", selection.expired), ("abandoned", selection.abandoned)):
                if dropped:
                    self._on_drop(reason, len(dropped))
            for job in selection.expired:
                job.resolve(_too_late())
            if not selection.batch:
                return
            await self._run(selection.batch)

    async def _run(self, jobs: list[_Job]) -> None:
        """Score `jobs` together; should that fail, one by one, so that a bad tree fails alone."""
        started, error = self._clock(), None
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
    """Return an error when the numbers cannot be log-probabilities of this tree."""
    if len(scores.logprobs) != tree.num_scored:
        return EngineFailed(
            f"the engine returned {len(scores.logprobs)} log-probabilities for {tree.num_scored} targets"
        )
    if not np.isfinite(scores.logprobs).all():
        return EngineFailed(
            "the engine returned log-probabilities that are not finite; try another dtype or route"
        )
    return None
