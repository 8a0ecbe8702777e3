"""What each of the policy's turns did to the reference, and which part of a reward it earned.

Works for any reward: the reference's log-probs stand on the reward's own tree. Knows log-probs, no model.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

from opera_service.rewards.around import AroundReward
from opera_service.rewards.base import GroupOutcome, Outcome, StepOutcome
from opera_service.rewards.reference_logprobs import ContextQueries, Logprobs, read
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup

UNPAID = frozenset({"format_gate", "reference_copy"})
"""Flags of trajectories whose turns earn nothing on their way: the last one gets all that the reward is."""


class StepsPlan(NamedTuple):
    """A reward's plan and the steps'."""

    reward: Any
    levels: tuple[tuple[int, ...], ...]
    """A trajectory: queries for the reference before the first turn and after each; empty without turns."""


class WithSteps(AroundReward[StepsPlan]):
    """Any reward, with the steps of trajectories that came with turns. The reward stays what it is.

    IGPO (arXiv 2510.14967) defines a turn's information gain: what the turn, and what the environment answered to
    it, added to the reference's likelihood.
    """

    name = "with steps"
    summary = "Another reward, with what each turn did."
    source = "ours; IGPO, arXiv 2510.14967, for the gain of a turn"

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> StepsPlan:
        """Plan the reward, then the reference before and after each turn; equal contexts are on the tree once."""
        plan, ask = self._reward.plan(group, tree), ContextQueries(group, tree)
        return StepsPlan(
            plan,
            tuple(
                tuple(map(ask.after, (one.turns[0].before, *(turn.after for turn in one.turns))))
                if one.turns
                else ()
                for one in group.trajectories
            ),
        )

    def read(self, group: EncodedGroup, plan: StepsPlan, scores: TreeScores) -> GroupOutcome:
        """Return the reward's outcomes with their steps."""
        found = self._reward.read(group, plan.reward, scores)
        pairs = zip(found.trajectories, plan.levels, strict=True)
        return replace(
            found,
            trajectories=tuple(
                replace(one, steps=self._steps(one, [read(scores, query) for query in queries]))
                for one, queries in pairs
            ),
        )

    def _steps(self, outcome: Outcome, after: list[Logprobs]) -> tuple[StepOutcome, ...]:
        means = [float(one.mean()) for one in after]
        levels = [self._reward.level(one) for one in after]
        rises = [
            0.0 if now is None or then is None or UNPAID.intersection(outcome.flags) else now - then
            for then, now in pairwise(levels)
        ]
        return tuple(
            StepOutcome(
                mean_logprob=means[at + 1],
                gain=means[at + 1] - means[at],
                reward=rise if at + 1 < len(rises) else outcome.reward - sum(rises[:-1]),
            )
            for at, rise in enumerate(rises)
        )
