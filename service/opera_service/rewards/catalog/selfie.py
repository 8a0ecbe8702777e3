"""Selfie: what a policy prefers among its own responses, by their log-ratio to a second model."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.log_ratio import SAFE_CLIP, LogRatioConfig, LogRatioReward, Rated
from opera_service.rewards.policy_tokens import NO_GUARDS, outcome_of, outcomes_of
from opera_service.trajectories.encoded import EncodedGroup


class SelfieConfig(LogRatioConfig):
    """Choices of `selfie`."""

    beta: float = Field(
        0.1, gt=0, description="β: what one nat of log-ratio adds to the log-odds of a preference."
    )
    reduction: Literal["sum", "mean"] = Field(
        "sum",
        description="Of a response's log-ratios. A sum prefers long responses where the policy has moved far.",
    )
    valid_only: bool = Field(
        True, description="What the guards do not pay has 0, and is nobody's opponent; else it is like the others."
    )


class Selfie(LogRatioReward[SelfieConfig]):
    """Mean preference over the peers, by DPO's implicit reward."""

    name = "selfie"
    summary = "How much a policy prefers the response to its peers, by its log-ratio to a second model."
    source = "Selfie, arXiv 2406.04412: labels by the implicit reward of DPO (formula from the abstract and DPO)"
    needs = ("second_model", "group")
    equation = "r_i = mean_k sigmoid(β (s_i - s_k)), s = Σ_t [log p(y_t) - log p_second(y_t)]"
    unsettled = (
        "The paper labels one pair a prompt and refines the label; that the mean over peers is a reward is ours.",
        "β is 0.1, as in DPO's code; the paper's value was not found.",
    )
    components = ("log_ratio", "mean_log_ratio", "preference")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": SelfieConfig(reduction="mean", beta=10.0, clip=SAFE_CLIP),
        "paper": SelfieConfig(guards=NO_GUARDS, valid_only=False),
    }

    def rated(self, group: EncodedGroup, members: list[Rated]) -> GroupOutcome:  # noqa: ARG002
        """Compare everybody with everybody who counts; a lone one is preferred to nobody, and is flagged."""
        written = [one.ratios[one.member.numbers.written] for one in members]
        scores = np.array([one.mean() if self.config.reduction == "mean" else one.sum() for one in written])
        counts = np.array([one.member.valid or not self.config.valid_only for one in members])
        found = []
        for at, ((one, _), ratios) in enumerate(zip(members, written, strict=True)):
            others = counts.copy()
            others[at] = False
            gaps = self.config.beta * (scores[at] - scores[others])
            preference = float((0.5 * (1 + np.tanh(gaps / 2))).mean()) if others.any() else 0.5
            components = {
                "log_ratio": float(ratios.sum()),
                "mean_log_ratio": float(ratios.mean()),
                "preference": preference,
            }
            flags = one.flags if others.any() else (*one.flags, "uninformative")
            found.append(outcome_of(replace(one, flags=flags), preference if counts[at] else 0.0, components))
        return outcomes_of(found)
