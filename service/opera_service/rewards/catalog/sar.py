"""SAR: a response should be likelier with its question than without it, so nothing but what was asked pays."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome, Outcome, Reward
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    Member,
    PolicyConfig,
    Queries,
    Values,
    mean_over,
    member_of,
    outcome_of,
    outcomes_of,
    plan_policy,
    policy_of,
    read_policy,
)
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory


class SarConfig(PolicyConfig):
    """Choices of `sar`."""

    least: float = Field(-1.0, le=0, description="No response is worth less; also what the guards do not pay.")


SarPlan = tuple[Queries, tuple[int | None, ...]]
"""Queries after the question, and those of each response by itself."""


class Sar(Reward[SarConfig, SarPlan]):
    """Relative fall of log-perplexity by the question."""

    name = "sar"
    summary = "How much the question lowers the response's log-perplexity, as a share of what it is without it."
    source = "Self-aligned reward, arXiv 2509.05489, and its released code"
    needs = ()
    equation = "max((ln PPL(y) - ln PPL(y | x)) / ln PPL(y), -1)"
    unsettled = (
        "Without the question the first token has no context; it is left out of both perplexities.",
        "A response of one token, or one that is certain by itself, is worth 0.",
    )
    components = ("with_prompt", "alone")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": SarConfig(),
        "paper": SarConfig(guards=NO_GUARDS),
    }

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> SarPlan:
        """Ask for every response twice: after its question, and by itself."""
        return plan_policy(group, tree, entropy=False), tuple(_alone(one, tree) for one in group.trajectories)

    def read(self, group: EncodedGroup, plan: SarPlan, scores: TreeScores) -> GroupOutcome:
        """Compare the two."""
        found = []
        for one, asked, alone in zip(group.trajectories, *plan, strict=True):
            member = member_of(self.config.guards, one, read_policy(one, asked, scores, entropy=False))
            values = np.full(len(member.numbers.logprobs), np.nan)
            if alone is not None:
                read = scores.of(alone)
                values[1 : 1 + len(read)] = read
            found.append(self._compared(member, values))
        return outcomes_of(found)

    def _compared(self, member: Member, alone: Values) -> Outcome:
        where = member.numbers.written & ~np.isnan(alone)
        asked, itself = -mean_over(member.numbers.logprobs, where), -mean_over(alone, where)
        value = max((itself - asked) / itself, self.config.least) if itself > 0 else 0.0
        components = {"with_prompt": asked, "alone": itself}
        return outcome_of(member, value if member.valid else self.config.least, components)


def _alone(trajectory: EncodedTrajectory, tree: TreeBuilder) -> int | None:
    ids, end = policy_of(trajectory).ids, policy_of(trajectory).written[-1][1]
    return tree.score(tree.extend(ROOT, ids[:1]), ids[1:end], grows=True) if end > 1 else None
