"""The primitive all rewards share: log p(reference | context) for the contexts of a group, planned and read.

Knows the token tree and encoded groups; says nothing about what a price is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opera_service.rewards.guards import CopyGuard, GuardConfig
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, Cursor, Ids, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory

Logprobs = NDArray[np.float64]


class ContextQueries:
    """Asks for the price of one group's reference; the same context is asked once."""

    def __init__(self, group: EncodedGroup, tree: TreeBuilder) -> None:
        self._group = group
        self._tree = tree
        self._asked: dict[Cursor, int] = {}

    def after(self, context: Ids, *, bridge: bool = True) -> int:
        """Return the query for log p(reference | context, bridge)."""
        cursor = self._tree.extend(ROOT, context)
        if bridge:
            cursor = self._tree.extend(cursor, self._group.bridge)
        if cursor not in self._asked:
            self._asked[cursor] = self._tree.score(cursor, self._group.reference_ids)
        return self._asked[cursor]


@dataclass(frozen=True)
class ReferencePlan:
    """Queries for the reference's price, per trajectory."""

    initial: int
    """Before any thought, with the bridge: an empty thought."""
    steps: tuple[tuple[int, ...], ...]
    """After 0 … S segments; empty when only the final prices were planned."""
    stops: tuple[int, ...]
    """How many segments count: S, or fewer when a copy of the reference starts there."""
    finals: tuple[int, ...]
    """Where the trajectory is priced."""


def plan_reference(
    group: EncodedGroup,
    tree: TreeBuilder,
    guards: GuardConfig,
    *,
    steps: bool,
    final: Literal["thought", "response"] = "thought",
) -> ReferencePlan:
    """Plan the final price of every trajectory, and with `steps` the price after each of its segments.

    `thought` prices after the thought (bridged), `response` after the whole response (not bridged). A thought
    that copies the reference is priced as it stood before the first copying segment; where there is no thought and
    none is required, the answer stands in its place.
    """
    ask, guard = ContextQueries(group, tree), CopyGuard(group, guards)
    initial = ask.after(group.initial)
    all_steps: list[tuple[int, ...]] = []
    stops: list[int] = []
    finals: list[int] = []
    for trajectory in group.trajectories:
        copy = guard.first_copy(trajectory)
        stop = len(trajectory.segments) if copy is None else copy
        if steps:
            all_steps.append(tuple(ask.after(context) for context in trajectory.contexts))
        whole = copy is None and final == "response"
        end = _end(trajectory) if trajectory.answer_only else trajectory.contexts[stop]
        stops.append(stop)
        finals.append(ask.after(trajectory.full, bridge=False) if whole else ask.after(end))
    return ReferencePlan(initial, tuple(all_steps), tuple(stops), tuple(finals))


def _end(trajectory: EncodedTrajectory) -> Ids:
    """Return the context after an answer that stands in a thought's place."""
    return trajectory.turns[-1].after if trajectory.turns else trajectory.answer_thought


def read(scores: TreeScores, query: int) -> Logprobs:
    """Return one query's log-probs in float64. Raises EngineFailed when they are not finite (D23)."""
    return np.asarray(scores.of(query), dtype=np.float64)


def sums(scores: TreeScores, queries: tuple[int, ...]) -> Logprobs:
    """Return the sum of log-probs, in nats, of each query."""
    return np.array([read(scores, query).sum() for query in queries])
