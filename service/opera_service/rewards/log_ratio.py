"""Base of rewards on the log-ratio of the served model to a second, frozen one, token by token of the response."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple, TypeVar

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome, Reward
from opera_service.rewards.policy_tokens import (
    Member,
    PolicyConfig,
    Queries,
    Values,
    member_of,
    plan_policy,
    read_policy,
)
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup

SAFE_CLIP = 5.0
"""Nats. A token that one model forbids (an unseen tag, a rare script) has a ratio of 20 or more."""


class LogRatioConfig(PolicyConfig):
    """What rewards on log-ratios share."""

    clip: float | None = Field(
        None, gt=0, description="Nats that a token's log-ratio counts at most, either way; null: no limit."
    )


Config = TypeVar("Config", bound=LogRatioConfig)


class RatioPlan(NamedTuple):
    """Queries of both models for the same tokens."""

    served: Queries
    second: Queries


class Rated(NamedTuple):
    """A member and its log-ratios."""

    member: Member
    ratios: Values
    """[response tokens]: log p - log p of the second model, clipped; 0 where the policy wrote nothing."""


class LogRatioReward(Reward[Config, RatioPlan]):
    """Base of rewards that compare what the policy wrote under two models."""

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> RatioPlan:
        """Ask both models for the log-probs of all that the policy wrote."""
        return RatioPlan(plan_policy(group, tree, entropy=False), plan_policy(group, tree.second, entropy=False))

    def read(self, group: EncodedGroup, plan: RatioPlan, scores: TreeScores) -> GroupOutcome:
        """Turn the log-ratios into outcomes."""
        rated = []
        for one, served, second in zip(group.trajectories, *plan, strict=True):
            numbers = read_policy(one, served, scores, entropy=False)
            other = read_policy(one, second, scores.of_second, entropy=False)
            ratios = np.nan_to_num(numbers.logprobs - other.logprobs, nan=0.0)
            if self.config.clip is not None:
                ratios = np.clip(ratios, -self.config.clip, self.config.clip)
            rated.append(Rated(member_of(self.config.guards, one, numbers), ratios))
        return self.rated(group, rated)

    @abstractmethod
    def rated(self, group: EncodedGroup, members: list[Rated]) -> GroupOutcome:
        """Return what the members are worth, in order."""
