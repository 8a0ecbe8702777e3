"""One request on its way through the service: encode, score, read, with its deadline, its clocks and its bill.

It knows trees and threads; not what is encoded or read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import InternalError, OperaError, Unavailable
from opera_client.wire import ErrorDetail, ModelInfo, Timing, Usage
from opera_service.pipelines.service import Service
from opera_service.scoring.scheduler import Scored
from opera_service.scoring.tree import TokenTree, TreeScores

P = ParamSpec("P")
T = TypeVar("T")


class Run:
    """Raises `WeightVersionMismatch` at once when the request wants other weights than the loaded ones."""

    def __init__(
        self, service: Service, *, weight_version: str | None = None, deadline: float | None = None
    ) -> None:
        service.require_weights(weight_version)
        self.service = service
        self._wanted = weight_version
        self._deadline = deadline
        self._started = service.clock()
        self._encode_s = 0.0
        self._naive = 0
        self._scored: list[Scored] = []

    async def encode(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a worker thread and put its time, waiting included, on the bill as encoding."""
        started = self.service.clock()
        result = await self.service.in_thread(function, *args, **kwargs)
        self._encode_s = self.service.clock() - started
        self.service.telemetry.encoded(self._encode_s)
        return result

    async def score(self, trees: Sequence[TokenTree | None]) -> list[TreeScores | OperaError]:
        """Return scores or the error of each tree, all on one weight version.

        None stands for an item that has nothing to score; its answer is an error that nobody reads, since the
        item has one of its own. Raises the first tree's error when no tree could be scored at all,
        `WeightVersionMismatch` when other weights scored, `Unavailable` when they changed in between.
        """
        planted = [tree for tree in trees if tree is not None]
        waits = (self.service.scheduler.score(tree, deadline=self._deadline) for tree in planted)
        outcomes = iter(await asyncio.gather(*waits, return_exceptions=True))
        answers = [_NOTHING_TO_SCORE if tree is None else self._settle(tree, next(outcomes)) for tree in trees]
        failed = [
            answer for answer in answers if isinstance(answer, OperaError) and answer is not _NOTHING_TO_SCORE
        ]
        if failed and len(failed) == len(planted):
            raise failed[0]
        self._check_versions()
        usage = self.usage
        self.service.telemetry.cost(
            naive=usage.tokens_naive, computed=usage.tokens_computed, scored=usage.scored_tokens
        )
        return answers

    def _settle(self, tree: TokenTree, outcome: Scored | BaseException) -> TreeScores | OperaError:
        if isinstance(outcome, Scored):
            self._scored.append(outcome)
            self._naive += tree.naive_tokens
            return outcome.scores
        if isinstance(outcome, OperaError):
            return outcome
        raise outcome

    @property
    def model(self) -> ModelInfo:
        """The model that produced this run's numbers."""
        return self.service.model(self._scored[0].scores.weight_version if self._scored else None)

    @property
    def usage(self) -> Usage:
        """Tokens of everything scored so far."""
        return Usage(
            tokens_naive=self._naive,
            tokens_computed=sum(scored.scores.tokens_computed for scored in self._scored),
            scored_tokens=sum(len(scored.scores.logprobs) for scored in self._scored),
        )

    @property
    def timing(self) -> Timing:
        """Milliseconds: the longest wait of a tree, and the engine's batches counted once each."""
        batches = {(scored.started, scored.finished) for scored in self._scored}
        return Timing(
            encode=1e3 * self._encode_s,
            queue=max((scored.queue_ms for scored in self._scored), default=0.0),
            engine=1e3 * sum(finished - started for started, finished in batches),
            total=1e3 * (self.service.clock() - self._started),
        )

    def error(self, error: OperaError, field: str) -> ErrorDetail:
        """Return an item's error for the answer, naming `field` unless the error knows better."""
        self.service.telemetry.item_error(error.code)
        return ErrorDetail.model_validate({**error.body(), "field": error.field or field})

    def _check_versions(self) -> None:
        versions = {scored.scores.weight_version for scored in self._scored}
        for version in versions:
            self.service.require_weights(self._wanted, scored=version)
        if len(versions) > 1:
            raise Unavailable("the weights changed while this request was scored; send it again")


_NOTHING_TO_SCORE = InternalError("nothing was planned for this item")


def or_raise(value: T | OperaError) -> T:
    """Return `value`, raising it when it is an error."""
    if isinstance(value, OperaError):
        raise value
    return value


def total_and_mean(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the sum and the mean of a non-empty array, added up in float64."""
    total = float(values.sum(dtype=np.float64))
    return total, total / len(values)


def perplexity(mean_logprob: float) -> float | None:
    """Return exp(-mean_logprob); None when that is beyond a float, as JSON has no infinity."""
    try:
        return math.exp(-mean_logprob)
    except OverflowError:
        return None
