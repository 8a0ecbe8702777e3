"""STEER: tokens whose update would change the policy's entropy much count less."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.outcome_advantages import OutcomeConfig, advantages, outcomes, told_if_alone
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    Member,
    PolicyReward,
    Values,
    mean_over,
    outcome_of,
    outcomes_of,
)
from opera_service.trajectories.encoded import EncodedGroup

_LEAST_CHANGE = 0.02
"""Of the released code: below it nothing changes the entropy much, and weights stay near 1."""
_LEAST_P = 1e-8


class SteerConfig(OutcomeConfig):
    """Choices of `steer`."""

    mapping: Literal["exponential", "linear"] = Field(
        "exponential",
        description="exp(-k Ω), which is `least` where Ω is largest; or a line from `most` to that.",
    )
    least: float = Field(0.8, gt=0, lt=1, description="Weight of the token that changes the entropy most.")
    most: float = Field(1.0, ge=1, description="Weight of the one that changes it least, with `mapping: linear`.")

    @model_validator(mode="after")
    def _used(self) -> SteerConfig:
        if self.mapping == "exponential" and self.most != 1:
            raise ValueError("`most` is 1 with `mapping: exponential`")
        return self


class Steer(PolicyReward[SteerConfig]):
    """Token weights; it pays nothing by itself, so put it into a sum."""

    name = "steer"
    summary = "Shapes tokens, pays 0: less weight for tokens whose update would change the policy's entropy much."
    source = "STEER, arXiv 2510.10150, and its released code"
    needs = ("entropy", "group", "outcome")
    equation = "w_t = exp(-k Ω_t), Ω_t = |A_i| (1 - p_t) |ln p_t + H_t|, k = -ln(0.8) / max(Ω_max, 0.02)"
    unsettled = (
        "The released code's default is the linear mapping to 0.8 - 1.2, the paper's is the exponential one.",
        "The largest Ω is over a training batch there; here over the group.",
        "A is the group-relative advantage of right and wrong; what else a trainer pays is not known here.",
    )
    components = ("outcome", "weight", "change")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": SteerConfig(),
        "paper": SteerConfig(guards=NO_GUARDS),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:
        """Weigh every token; where guards are on, what they do not pay sets no maximum."""
        members = told_if_alone(members)
        right = outcomes(group, members, self.name)
        changes = [_change(advantage, one) for advantage, one in zip(advantages(right), members, strict=True)]
        honest = [change for change, one in zip(changes, members, strict=True) if one.valid] or changes
        pooled = np.concatenate([change[~np.isnan(change)] for change in honest])
        low, high = float(pooled.min()), float(pooled.max())
        found = []
        for one, outcome, change in zip(members, right, changes, strict=True):
            written = one.numbers.written
            weights = np.where(written, self._weights(np.nan_to_num(change), low, high), 0.0)
            components = {
                "outcome": float(outcome),
                "weight": mean_over(weights, written),
                "change": mean_over(change, written),
            }
            found.append(outcome_of(one, 0.0, components, token_weights=weights))
        return outcomes_of(found, largest_change=high)

    def _weights(self, change: Values, low: float, high: float) -> Values:
        least, most = self.config.least, self.config.most
        if self.config.mapping == "exponential":
            weights = np.exp(np.log(least) * change / max(high, _LEAST_CHANGE))
        elif high > low:
            weights = most - (change - low) * (most - least) / (high - low)
        else:
            weights = np.full(len(change), (most + least) / 2)
        return np.asarray(np.clip(weights, least, most))


def _change(advantage: float, member: Member) -> Values:
    """Return |A/p · p (1 - p) (ln p + H)|, a token; NaN where the policy wrote nothing."""
    chances = np.clip(np.exp(member.numbers.logprobs), _LEAST_P, 1 - _LEAST_P)
    return np.asarray(np.abs(advantage * (1 - chances) * (np.log(chances) + member.numbers.entropies)))
