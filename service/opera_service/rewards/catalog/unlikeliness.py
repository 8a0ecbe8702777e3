"""Unlikeliness: among right answers, the least likely one keeps its whole reward."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.config import Judge
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    Member,
    PolicyConfig,
    PolicyReward,
    outcome_of,
    outcomes_of,
)
from opera_service.rewards.ranks import hard_rank
from opera_service.trajectories.encoded import EncodedGroup


class UnlikelinessConfig(PolicyConfig):
    """Choices of `unlikeliness`."""

    beta: float = Field(0.25, ge=0, le=1, description="What the most likely member of a large group loses.")
    ties: Literal["average", "order"] = Field(
        "average", description="Members that are equally likely share their rank, or have it by their order."
    )

    def judge_of(self, task: str) -> Judge | None:
        """Return the judge of `math` tasks; without right and wrong there is nothing to scale."""
        return "math_verify" if task == "math" else None


class Unlikeliness(PolicyReward[UnlikelinessConfig]):
    """Outcome times a factor that falls with the likelihood's rank."""

    name = "unlikeliness"
    summary = "Right or wrong, scaled so that the least likely right answer keeps its whole reward."
    source = "Rewarding the Unlikely, arXiv 2506.02355, and its released code"
    needs = ("group", "outcome")
    equation = "r_i (1 - β ρ_i / G), ρ_i = 0 for the least mean log p(y_i)"
    components = ("outcome", "rank", "logprob")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": UnlikelinessConfig(),
        "paper": UnlikelinessConfig(guards=NO_GUARDS, ties="order"),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:
        """Rank the members by their mean log-prob."""
        if self.config.judge_of(group.task) is None:
            raise OutcomeUnavailable("unlikeliness scales right and wrong, so it needs the task `math`")
        means = np.array([float(np.nanmean(one.numbers.logprobs)) for one in members])
        count = len(means)
        if self.config.ties == "order":
            ranks = np.argsort(np.argsort(means, kind="stable"), kind="stable").astype(np.float64)
        else:
            ranks = hard_rank(means, "average") * (count - 1) if count > 1 else np.zeros(1)
        found = []
        for one, rank, mean in zip(members, ranks, means, strict=True):
            if one.trajectory.outcome is None:
                raise OutcomeUnavailable("a math task needs to be judged before its reward can be read")
            right = float(one.trajectory.outcome and one.valid)
            components = {"outcome": right, "rank": float(rank), "logprob": float(mean)}
            found.append(outcome_of(one, right * (1 - self.config.beta * float(rank) / count), components))
        return outcomes_of(found)
