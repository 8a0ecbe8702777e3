"""Reads what can be read: trajectories whose numbers are finite, ranked without those whose numbers are not.

A plan is a function of its group, so what a trajectory reads is found by planning it alone, and the rest is
planned again without it, on the scores that are there. Knows no reward by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from opera_client.errors import EngineFailed
from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.registry import AnyReward
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup


class Reading(NamedTuple):
    """A group's outcome, and what could not be read."""

    group: EncodedGroup
    """Without the trajectories that are in `errors`."""
    outcome: GroupOutcome | None
    """None when there is no other."""
    errors: Mapping[int, EngineFailed]
    """By position in the group that was given."""


def read_finite(reward: AnyReward, group: EncodedGroup, plan: Any, tree: TokenTree, scores: TreeScores) -> Reading:
    """Turn the scores of `tree`, on which `plan` is the group's, into outcomes. Raises what `Reward.read` does."""
    if scores.finite:
        return Reading(group, reward.read(group, plan, scores), {})
    known = _Known(tree, scores)
    errors: dict[int, EngineFailed] = {}
    for at in range(len(group.trajectories)):
        try:
            known.plan(reward, group.only([at]))
        except EngineFailed as error:
            errors[at] = error
    if len(errors) == len(group.trajectories):
        errors = {at: errors[at] for at in _fewest(known, reward, group)}
    rest = group.only([at for at in range(len(group.trajectories)) if at not in errors])
    if not rest.trajectories:
        return Reading(rest, None, errors)
    return Reading(rest, reward.read(rest, *known.plan(reward, rest)), errors)


def _fewest(known: _Known, reward: AnyReward, group: EncodedGroup) -> list[int]:
    """Return whom to leave out so that the rest can be read, where everybody alone reads what is not finite.

    A reward that compares pairs reads it for whoever stands beside the one that makes it: that one reads the most.
    """
    places = range(len(group.trajectories))
    worst_first = sorted(places, key=lambda at: -known.spoilt(reward, group.only([at])))
    few, many = 1, len(places)
    while few < many:
        middle = (few + many) // 2
        try:
            known.plan(reward, group.only(sorted(worst_first[middle:])))
            many = middle
        except EngineFailed:
            few = middle + 1
    return worst_first[:few]


class _Known:
    """Scores by what they are the scores of."""

    def __init__(self, tree: TokenTree, scores: TreeScores) -> None:
        self._scores = scores
        self._queries = {path: query for query, path in enumerate(_paths(tree))}
        asked = tree.second is not None and scores.second is not None
        self._second = _Known(tree.second, scores.second) if asked else None  # type: ignore[arg-type]

    def spoilt(self, reward: AnyReward, group: EncodedGroup) -> int:
        """Return how many of a part's queries have a number that is not finite."""
        builder = TreeBuilder()
        reward.plan(group, builder)
        return self.spoilt_of(builder.build())

    def spoilt_of(self, tree: TokenTree) -> int:
        """Return the same of a tree; a second model's is in it."""
        found = self._second.spoilt_of(tree.second) if self._second and tree.second else 0
        for path in _paths(tree):
            try:
                self._scores.of(self._queries[path])
            except (KeyError, EngineFailed):
                found += 1
        return found

    def plan(self, reward: AnyReward, group: EncodedGroup) -> tuple[Any, TreeScores]:
        """Plan a part of the group; return the plan and its scores. Raises EngineFailed when one is not finite."""
        builder = TreeBuilder()
        plan = reward.plan(group, builder)
        return plan, self.part(builder.build(), reward.name)

    def part(self, tree: TokenTree, name: str) -> TreeScores:
        """Return the scores of a tree of the reward `name`. Raises EngineFailed when one is not finite."""
        try:
            queries = [self._queries[path] for path in _paths(tree)]
        except KeyError:
            raise EngineFailed(f"{name} reads other contexts for a part of a group; send it again") from None
        second = self._second.part(tree.second, name) if self._second and tree.second else None
        return replace(self._scores.part(queries, tree.query_start), second=second)


def _paths(tree: TokenTree) -> Iterator[tuple[bytes, int]]:
    """Yield every query's context and target, and where they meet."""
    for query in range(tree.num_queries):
        ids, context = tree.query_context(query)
        yield ids.tobytes(), context
