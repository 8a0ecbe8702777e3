"""The 80/20 rule: only the tokens at which the policy could have gone elsewhere are trained."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    Member,
    PolicyConfig,
    PolicyReward,
    outcome_of,
    outcomes_of,
)
from opera_service.trajectories.encoded import EncodedGroup


class HighEntropyConfig(PolicyConfig):
    """Choices of `high_entropy`."""

    share: float = Field(0.2, gt=0, le=1, description="Share of the group's tokens that keep their advantage.")


class HighEntropy(PolicyReward[HighEntropyConfig]):
    """Token weights; it pays nothing by itself, so put it into a sum."""

    name = "high_entropy"
    summary = "Shapes tokens, pays 0: weight 1 for the fifth of a group's tokens with the highest entropy."
    source = "Beyond the 80/20 Rule, arXiv 2506.01939"
    needs = ("entropy", "group")
    equation = "w_t = 1 if H_t >= the (1 - ρ) quantile of H, else 0; ρ = 0.2"
    unsettled = ("The quantile is over a training batch in the paper; here over the group.",)
    components = ("kept", "entropy")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": HighEntropyConfig(),
        "paper": HighEntropyConfig(guards=NO_GUARDS),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:  # noqa: ARG002
        """Weigh every token; where guards are on, what they do not pay sets no threshold."""
        honest = [one for one in members if one.valid] or members
        pooled = np.concatenate([one.numbers.entropies[one.numbers.written] for one in honest])
        threshold = float(np.quantile(pooled, 1 - self.config.share))
        found = []
        for one in members:
            numbers = one.numbers
            weights = np.where(numbers.written, numbers.entropies >= threshold, 0).astype(np.float64)
            components = {
                "kept": float(weights[numbers.written].mean()),
                "entropy": float(numbers.entropies[numbers.written].mean()),
            }
            found.append(outcome_of(one, 0.0, components, token_weights=weights))
        return outcomes_of(found, threshold=threshold)
