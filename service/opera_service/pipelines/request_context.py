"""One request on its way through the service, step by step, with its deadline, its clocks and its bill.

It knows trees and threads; not what is encoded or read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np
from pydantic import BaseModel

from opera_client.errors import (
    DeadlineExceeded,
    EngineFailed,
    InternalError,
    OperaError,
    TooManyTokens,
    Unavailable,
)
from opera_client.wire import ErrorDetail, ModelInfo, Timing, Usage
from opera_service.engines.base import GenerationRequest
from opera_service.pipelines.runtime import Runtime, Sampled, Sampling
from opera_service.scoring.admission import Reservation
from opera_service.scoring.dispatcher import Done
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.scoring.tree_dispatcher import Scored
from opera_service.trajectories.patience import GivenUp, must_be_wanted, while_wanted

P = ParamSpec("P")
T = TypeVar("T")


class RequestContext:
    """To be entered before any work is done for the request, and left when it has its answer.

    Raises `WeightVersionMismatch` at once when the request wants other weights than the loaded ones; entering it
    raises `Overloaded`.
    """

    def __init__(
        self,
        runtime: Runtime,
        request: BaseModel,
        field: str,
        *,
        run_id: str | None = None,
        weight_version: str | None = None,
        deadline: float | None = None,
        new_tokens: int = 0,
        comes_back: bool = True,
    ) -> None:
        """`field` is the request's own, which holds what is computed; `run_id` whose turn it is served in.

        `new_tokens` is the most that it wants sampled; with any, its place is in the dispatcher for sampling. No
        room is kept for one that is refused and never `comes_back`.
        """
        runtime.require_weights(weight_version)
        self.runtime = runtime
        self._request, self._field, self._run_id = request, field, run_id or ""
        self._wanted = weight_version
        self._deadline, self._new_tokens = deadline, new_tokens
        self._comes_back = comes_back
        self._started = runtime.clock()
        self._encode_s = 0.0
        self._naive = 0
        self._item_errors: list[str] = []
        self._scored: list[Scored] = []
        self._sampled: list[Done[Sampled]] = []
        self._place: AbstractContextManager[Reservation] | None = None
        self._reservation: Reservation | None = None

    def __enter__(self) -> Self:
        """Take a place in the queue; what the request will bring is estimated, as nothing is tokenised yet."""
        about = about_tokens(self._request) + self._new_tokens
        dispatcher = self.runtime.sampling_dispatcher if self._new_tokens else self.runtime.tree_dispatcher
        self._place = dispatcher.reserve(
            self._run_id, about=about, deadline=self._deadline, comes_back=self._comes_back
        )
        self._reservation = self._place.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, if it is still held."""
        if self._place is not None:
            self._place.__exit__(kind, error, trace)

    async def encode(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a worker thread; its time, waiting included, is billed as encoding.

        Raises `DeadlineExceeded` when its turn comes too late, or it is not ready in time.
        """
        started = self.runtime.clock()

        left = False

        def wanted() -> bool:
            return not left and (self._deadline is None or self.runtime.clock() < self._deadline)

        def in_time() -> T:
            try:
                with while_wanted(wanted):
                    must_be_wanted()
                    return function(*args, **kwargs)
            except GivenUp:
                raise DeadlineExceeded(
                    "the deadline passed before this was tokenised; allow more time, ask for less"
                ) from None

        try:
            result = await self.runtime.threads.run(self._run_id, in_time)
        finally:
            left = True  # also where the caller has left: the thread must not go on for nobody
        self._encode_s = self.runtime.clock() - started
        self.runtime.metrics.encoded(self._encode_s)
        self.runtime.tracing.stage("encode", started, self.runtime.clock())
        return result

    async def plan(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a worker thread, as the end of encoding that something was waited for."""
        started = self.runtime.clock()
        result = await self.runtime.threads.run(self._run_id, function, *args, **kwargs)
        self._encode_s += self.runtime.clock() - started
        return result

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function`, which turns scores into an answer, in a worker thread; then count its items' errors."""
        started = self.runtime.clock()
        result = await self.runtime.threads.run(self._run_id, function, *args, **kwargs)
        ended = self.runtime.clock()
        self.runtime.metrics.read(ended - started)
        for code in self._item_errors:
            self.runtime.metrics.item_error(code)
        self.runtime.tracing.stage("read", started, ended)
        return result

    async def generate(self, items: Sequence[Sampling]) -> list[Sampled | OperaError]:
        """Sample for every item, given its requests; return their continuations, or the item's error.

        Raises the first item's error when none could be sampled, `TooManyTokens` and `Overloaded` when there is no
        room for them, `WeightVersionMismatch` and `Unavailable` like `score`.
        """
        started = self.runtime.clock()
        given_up = False

        def wanted(request: GenerationRequest) -> GenerationRequest:
            # Nobody waits any more: a batch on the device cannot be cancelled, but it can end.
            enough = request.enough or (lambda _: False)
            return replace(request, enough=lambda ids: given_up or enough(ids))

        asked = [[wanted(request) for request in item] for item in items]
        try:
            outcomes = await self.runtime.sampling_dispatcher.answer_all(
                asked, deadline=self._deadline, reservation=self._reservation
            )
        except TooManyTokens as error:
            error.field = self._field
            raise
        finally:
            given_up = True
            self.runtime.tracing.stage("generate", started, self.runtime.clock())
        failed = [outcome for outcome in outcomes if isinstance(outcome, OperaError)]
        if failed and len(failed) == len(outcomes):
            raise failed[0]
        self._sampled = [outcome for outcome in outcomes if isinstance(outcome, Done)]
        self._check_versions()
        return [outcome if isinstance(outcome, OperaError) else outcome.answer for outcome in outcomes]

    async def score(self, trees: Sequence[TokenTree | None]) -> list[TreeScores | OperaError]:
        """Return scores or the error of each tree, all on one weight version.

        None stands for an item that has nothing to score; its answer is an error that nobody reads, since the
        item has one of its own. Trees that were scored before new weights came in are scored again on those.
        Raises the first tree's error when no tree could be scored at all, `WeightVersionMismatch` when other
        weights than the wanted ones scored, `Unavailable` when they change faster than this can be scored,
        `TooManyTokens` and `Overloaded` when there is no room for the trees.
        """
        planted = [tree for tree in trees if tree is not None]
        self.runtime.limits.check_tokens(sum(tree.fed_tokens for tree in planted), self._field)
        outcomes = await self._outcomes(planted)
        for _ in range(_TIMES_AGAIN):
            stale = self._stale(outcomes)
            again = await self._outcomes([planted[at] for at in stale])
            for at, outcome in zip(stale, again, strict=True):
                outcomes[at] = outcome
        settled = iter(self._settle(tree, outcome) for tree, outcome in zip(planted, outcomes, strict=True))
        answers = [_NOTHING_TO_SCORE if tree is None else next(settled) for tree in trees]
        failed = [
            answer for answer in answers if isinstance(answer, OperaError) and answer is not _NOTHING_TO_SCORE
        ]
        if failed and len(failed) == len(planted):
            raise failed[0]
        self._check_versions()
        usage = self.usage
        self.runtime.metrics.cost(
            naive=usage.tokens_naive, computed=usage.tokens_computed, scored=usage.scored_tokens
        )
        self._trace(usage)
        return answers

    def _trace(self, usage: Usage) -> None:
        """Tell the stages that all trees went through together: the queue until the last left it, the engine."""
        computed = [one for one in self._scored if not one.cached]
        if not computed:
            return
        came, left = (min(s.started - 1e-3 * s.queue_ms for s in computed), max(s.started for s in computed))
        began, ended = min(s.started for s in computed), max(s.finished for s in computed)
        stage, trees = self.runtime.tracing.stage, len(computed)
        stage("queue", came, left, trees=trees)
        stage("engine", began, ended, trees=trees, tokens=usage.tokens_computed, logprobs=usage.scored_tokens)

    async def _outcomes(self, trees: Sequence[TokenTree]) -> list[Scored | OperaError]:
        """Return the scores of each tree, or its error; what was computed on these weights before is not again."""
        runtime = self.runtime
        known, keys = await runtime.known_scores(trees)
        unknown = [tree for tree, found in zip(trees, known, strict=True) if found is None]
        try:
            computed = iter(
                await runtime.tree_dispatcher.answer_all(
                    unknown, deadline=self._deadline, reservation=self._reservation
                )
            )
        except TooManyTokens as error:
            error.field = self._field
            raise
        outcomes = [next(computed) if found is None else found for found in known]
        runtime.keep_scores(keys, outcomes)
        return outcomes

    def _stale(self, outcomes: Sequence[Scored | OperaError]) -> list[int]:
        """Return which trees were scored on other weights than the last of them was."""
        scored = [outcome for outcome in outcomes if isinstance(outcome, Done)]
        if not scored:
            return []
        newest = max(scored, key=lambda one: one.finished).answer.weight_version
        self.runtime.require_weights(self._wanted, scored=newest)
        return [
            at
            for at, outcome in enumerate(outcomes)
            if isinstance(outcome, Done) and outcome.answer.weight_version != newest
        ]

    def _settle(self, tree: TokenTree, outcome: Scored | OperaError) -> TreeScores | OperaError:
        if isinstance(outcome, OperaError):
            return outcome
        if not np.isfinite(outcome.answer.logprobs).any():
            return EngineFailed("the model gave not one finite number; check its weights and --dtype")
        self._scored.append(outcome)
        self._naive += tree.naive_tokens + (0 if tree.second is None else tree.second.naive_tokens)
        return outcome.answer

    @property
    def model(self) -> ModelInfo:
        """The model that produced this run's numbers."""
        return self.runtime.model(next(iter(self._versions), None))

    @property
    def usage(self) -> Usage:
        """Tokens of everything scored so far."""
        engine = self.runtime.engine.info
        cached = [scored for scored in self._scored if scored.cached]
        computed = [scored for scored in self._scored if not scored.cached]
        return Usage(
            tokens_naive=self._naive,
            tokens_computed=sum(scored.answer.tokens_computed for scored in computed),
            scored_tokens=sum(scored.answer.num_scored for scored in self._scored),
            cache_hits=len(cached),
            tokens_cached=sum(scored.answer.tokens_computed for scored in cached),
            recomputed_contexts=sum(scored.answer.recomputed for scored in computed),
            route=engine.route,
            route_reason=engine.route_reason,
        )

    @property
    def timing(self) -> Timing:
        """Milliseconds: the longest waits to be sampled and to be scored, and the engine's time for scoring."""
        return Timing(
            encode=1e3 * self._encode_s,
            queue=_longest_wait(self._sampled) + _longest_wait(self._scored),
            engine=_engine_ms(self._scored),
            total=1e3 * (self.runtime.clock() - self._started),
        )

    def error(self, error: OperaError, field: str) -> ErrorDetail:
        """Return an item's error for the answer, naming `field` unless the error knows better."""
        self._item_errors.append(error.code)
        return ErrorDetail.model_validate({**error.body(), "field": error.field or field})

    @property
    def generated_tokens(self) -> int:
        """Tokens sampled so far."""
        found = (one for done in self._sampled for some in done.answer for one in some)
        return sum(len(one.token_ids) for one in found)

    @property
    def generate_ms(self) -> float:
        """Milliseconds that the engine spent sampling."""
        return _engine_ms(self._sampled)

    @property
    def _versions(self) -> set[str]:
        sampled = {one.weight_version for done in self._sampled for some in done.answer for one in some}
        return sampled | {scored.answer.weight_version for scored in self._scored}

    def _check_versions(self) -> None:
        versions = self._versions
        for version in versions:
            self.runtime.require_weights(self._wanted, scored=version)
        if len(versions) > 1:
            raise Unavailable("the weights keep changing while this request is scored; send it again")


_TIMES_AGAIN = 3
"""How often trees of older weights are scored again before the request is given back."""

_NOTHING_TO_SCORE = InternalError("nothing was planned for this item")


def _longest_wait(done: Sequence[Done[Any]]) -> float:
    return max((one.queue_ms for one in done), default=0.0)


def _engine_ms(done: Sequence[Done[Any]]) -> float:
    """Return how long the engine had them, batches counted once each."""
    return 1e3 * sum(finished - started for started, finished in {(one.started, one.finished) for one in done})


def about_tokens(value: object) -> int:
    """Return about how many tokens a request holds: ids as they are, and one for four characters of text."""
    if isinstance(value, str):
        return 1 + len(value) // 4
    if isinstance(value, BaseModel):
        return sum(about_tokens(part) for _, part in value)
    if isinstance(value, list):
        return len(value) if value and isinstance(value[0], int) else sum(map(about_tokens, value))
    return 0
