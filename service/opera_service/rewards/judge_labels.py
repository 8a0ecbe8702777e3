"""The judge's label distributions, planned and read: for rewards that ask the model which answer is better."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_client.errors import InvalidRequest
from opera_service.rewards.base import GroupOutcome, Outcome, Reward
from opera_service.rewards.config import RewardConfig
from opera_service.rewards.guards import malformed
from opera_service.rewards.policy_tokens import NO_REFERENCE
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.encoding_config import ContextConfig
from opera_service.trajectories.judge_prompts import JudgeRules

Labels = dict[tuple[str, ...], NDArray[np.float64]]
"""By the members that were shown, in their order: log-probs of the labels, among all tokens."""


class JudgeConfig(RewardConfig):
    """What rewards by the model's own verdict share."""

    context: ContextConfig = ContextConfig(controls=False)
    judging: JudgeRules = JudgeRules()
    format_gate: bool = Field(True, description="A malformed response is not paid, whatever the judge says (D19).")

    def judge_rules(self) -> JudgeRules:
        """Return `judging`."""
        return self.judging


Config = TypeVar("Config", bound=JudgeConfig)
LabelPlan = dict[tuple[str, ...], tuple[int, ...]]


class JudgeReward(Reward[Config, LabelPlan]):
    """Base of rewards that are functions of label distributions."""

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> LabelPlan:
        """Ask for every label after every prompt; prompts that begin alike share their beginning."""
        if group.judging is None:
            raise InvalidRequest("the group was encoded without a judge's prompts")
        plan: LabelPlan = {}
        for shown, prompt in group.judging.prompts.items():
            if not _concerns(shown, group):
                continue
            cursor = tree.extend(ROOT, prompt)
            plan[shown] = tuple(tree.score(cursor, label) for label in group.judging.labels)
        return plan

    def read(self, group: EncodedGroup, plan: LabelPlan, scores: TreeScores) -> GroupOutcome:
        """Turn label distributions into outcomes."""
        labels = {
            shown: np.array([float(scores.of(query)[0]) for query in queries]) for shown, queries in plan.items()
        }
        outcomes = []
        for one in group.trajectories:
            reward, components, flags = self.value(one.id, labels)
            if self.config.format_gate and malformed(one):
                reward, flags = 0.0, (*flags, "format_gate")
            outcomes.append(Outcome(reward, components, NO_REFERENCE, flags=(*one.flags, *flags)))
        return GroupOutcome(tuple(outcomes), NO_REFERENCE)

    @abstractmethod
    def value(self, member: str, labels: Labels) -> tuple[float, dict[str, float], tuple[str, ...]]:
        """Return a member's reward, components and flags."""


def _concerns(shown: tuple[str, ...], group: EncodedGroup) -> bool:
    """Whether all that are shown are members; for a lone one, whether it is shown at all."""
    members = {one.id for one in group.trajectories}
    return set(shown) <= members or (len(members) == 1 and not members.isdisjoint(shown))
