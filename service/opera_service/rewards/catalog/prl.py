"""PRL: the KL penalty to a second model, handed out step by step instead of once."""

from __future__ import annotations

from math import inf
from typing import Literal

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.log_ratio import SAFE_CLIP, LogRatioConfig, LogRatioReward, Rated
from opera_service.rewards.policy_steps import steps_of
from opera_service.rewards.policy_tokens import NO_GUARDS, Member, outcome_of, outcomes_of
from opera_service.trajectories.encoded import EncodedGroup, Span


class PrlConfig(LogRatioConfig):
    """Choices of `prl`."""

    eta: float = Field(100.0, gt=0, description="η: nats of log-ratio that cost one unit of advantage.")
    steps: Literal["length", "segments", "turns"] = Field(
        "length", description="A step is so many tokens of a turn, a paragraph, or one of the policy's turns."
    )
    step_tokens: int = Field(256, ge=1, description="Tokens of a step with `steps: length`.")
    most_cost: float | None = Field(
        None, ge=0, description="Units of advantage that a token costs at most; null: no limit."
    )
    most_gain: float | None = Field(
        None,
        ge=0,
        description="What a token earns at most, where the rest is likelier to the second model; null: no limit.",
    )


class Prl(LogRatioReward[PrlConfig]):
    """Token rewards; it pays nothing by itself, so put it into a sum with what says right and wrong."""

    name = "prl"
    summary = "Shapes tokens, pays 0: a step costs what the rest of the response departs from a second model."
    source = "PRL, arXiv 2601.10201, and its released code"
    needs = ("second_model",)
    equation = "token_rewards = -(1/η) Σ_(j >= e) [log p(y_j) - log p_second(y_j)], e the last token of the step"
    unsettled = (
        "η is 1, 100 and 200 in the released scripts, by model; 100 is assumed.",
        "The released code counts a step's length from the response's start; here from the turn's.",
    )
    components = ("log_ratio", "steps", "first_step")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": PrlConfig(clip=SAFE_CLIP, most_cost=3.0, most_gain=0.0),
        "paper": PrlConfig(guards=NO_GUARDS),
    }

    def rated(self, group: EncodedGroup, members: list[Rated]) -> GroupOutcome:  # noqa: ARG002
        """Price every member for itself; what the guards do not pay earns nothing above 0."""
        found = []
        for one, ratios in members:
            rest = np.cumsum(ratios[::-1])[::-1]
            shaped = np.zeros(len(ratios))
            spans = self._steps(one)
            for start, end in spans:
                shaped[start:end] = self._bounded(-rest[end - 1] / self.config.eta)
            components = {
                "log_ratio": float(ratios.sum()),
                "steps": float(len(spans)),
                "first_step": float(shaped[spans[0][0]]),
            }
            shaped = shaped if one.valid else np.minimum(shaped, 0.0)
            found.append(outcome_of(one, 0.0, components, token_rewards=shaped))
        return outcomes_of(found)

    def _bounded(self, worth: float) -> float:
        cost, gain = (inf if most is None else most for most in (self.config.most_cost, self.config.most_gain))
        return min(max(worth, -cost), gain)

    def _steps(self, member: Member) -> list[Span]:
        if self.config.steps != "length":
            return steps_of(member, self.config.steps)
        size = self.config.step_tokens
        return [
            (at, min(at + size, end)) for start, end in steps_of(member, "turns") for at in range(start, end, size)
        ]
