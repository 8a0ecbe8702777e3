"""The dispatcher in which token trees wait to be scored. Knows trees and scores; no reward, no text, no HTTP."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from opera_client.errors import EngineFailed, OperaError
from opera_service.scoring.admission import QueueLimits, Reservation
from opera_service.scoring.dispatcher import BatchReport, Dispatcher, Done
from opera_service.scoring.fair_queue import Clock
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree

ScoreTrees = Callable[[Sequence[TokenTree]], Awaitable[list[TreeScores]]]
Scored = Done[TreeScores]


class TreeDispatcher(Dispatcher[TokenTree, TreeScores]):
    """A dispatcher of trees, weighed by their distinct tokens, a second model's included."""

    def __init__(
        self,
        score_trees: ScoreTrees,
        max_batch_tokens: int,
        *,
        limits: QueueLimits | None = None,
        clock: Clock = time.monotonic,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
        on_drop: Callable[[str, int], None] = lambda *_: None,
    ) -> None:
        super().__init__(
            score_trees,
            max_batch_tokens,
            tokens=lambda tree: tree.fed_tokens,
            problem=_problem,
            limits=limits,
            clock=clock,
            on_batch=on_batch,
            on_drop=on_drop,
        )

    async def score(
        self, tree: TokenTree, *, deadline: float | None = None, reservation: Reservation | None = None
    ) -> Scored:
        """Return the scores of `tree`; see `answer_all`."""
        (outcome,) = await self.answer_all([tree], deadline=deadline, reservation=reservation)
        if isinstance(outcome, OperaError):
            raise outcome
        return outcome


def _problem(tree: TokenTree, scores: TreeScores) -> EngineFailed | None:
    """Return an error when the numbers, a second model's included, cannot be those of this tree."""
    if len(scores.logprobs) != tree.num_scored:
        return EngineFailed(
            f"the engine returned {len(scores.logprobs)} log-probabilities for {tree.num_scored} targets"
        )
    if tree.second is None:
        return None
    if scores.second is None:
        return EngineFailed("the engine did not ask the second model")
    return _problem(tree.second, scores.second)
