"""Implicit PRM: a model trained on outcomes says, against the model it came from, what each step is worth."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.log_ratio import SAFE_CLIP, LogRatioConfig, LogRatioReward, Rated
from opera_service.rewards.policy_steps import steps_of
from opera_service.rewards.policy_tokens import NO_GUARDS, outcome_of, outcomes_of
from opera_service.trajectories.encoded import EncodedGroup


class ImplicitPrmConfig(LogRatioConfig):
    """Choices of `implicit_prm`."""

    beta: float = Field(0.05, gt=0, description="β: what one nat of log-ratio is worth.")
    steps: Literal["turns", "segments", "tokens"] = Field(
        "segments",
        description="A step is one of the policy's turns, a paragraph of the thought or the answer, or a token.",
    )
    reduction: Literal["sum", "mean"] = Field(
        "sum", description="Of the log-ratios of a step, and of the whole response. A sum grows with the length."
    )
    pay: Literal["whole", "least_step", "steps"] = Field(
        "whole",
        description="`whole`: the response's log-ratio; `least_step`: that of its worst step; `steps`: the reward "
        "is 0, and each step's is in `token_rewards` at the step's last token.",
    )
    invalid: float = Field(
        -1.0, description="Reward of what the guards do not pay; its steps earn nothing above 0."
    )


class ImplicitPrm(LogRatioReward[ImplicitPrmConfig]):
    """β times the log-ratio, summed over the response or step by step."""

    name = "implicit_prm"
    summary = (
        "What a model trained on outcomes finds likelier than a second model does: β · log-ratio, step by step."
    )
    source = "Implicit PRM, arXiv 2412.01981; PRIME, arXiv 2502.01456, with `pay: steps` and `steps: tokens`"
    needs = ("second_model",)
    equation = (
        "r(y) = β Σ_t [log p(y_t) - log p_second(y_t)]; a step's reward is the part of the sum inside the step"
    )
    unsettled = (
        "The papers train the served model on right and wrong responses first; that is the caller's.",
        "Implicit PRM ranks by the least step, PRIME pays every token: `pay`. The whole is their outcome reward.",
        "β is 0.05 in PRIME and 0.001 in the evaluation of Implicit PRM; it only scales.",
    )
    components = ("log_ratio", "mean_log_ratio", "least_step", "steps")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": ImplicitPrmConfig(reduction="mean", clip=SAFE_CLIP),
        "paper": ImplicitPrmConfig(guards=NO_GUARDS),
    }

    def rated(self, group: EncodedGroup, members: list[Rated]) -> GroupOutcome:  # noqa: ARG002
        """Price every member for itself."""
        found = []
        for one, ratios in members:
            written = one.numbers.written
            spans = steps_of(one, self.config.steps)
            each = [self._worth(ratios[start:end]) for start, end in spans]
            whole, least = self._worth(ratios[written]), min(each)
            worth = {"whole": whole, "least_step": least, "steps": 0.0}[self.config.pay]
            components = {
                "log_ratio": float(ratios[written].sum()),
                "mean_log_ratio": float(ratios[written].mean()),
                "least_step": least,
                "steps": float(len(spans)),
            }
            shaped = {}
            if self.config.pay == "steps":
                earned = np.zeros(len(ratios))
                earned[[end - 1 for _, end in spans]] = each
                shaped = {"token_rewards": earned if one.valid else np.minimum(earned, 0.0)}
            found.append(outcome_of(one, worth if one.valid else self.config.invalid, components, **shaped))
        return outcomes_of(found)

    def _worth(self, ratios: np.ndarray) -> float:
        return self.config.beta * float(ratios.mean() if self.config.reduction == "mean" else ratios.sum())
