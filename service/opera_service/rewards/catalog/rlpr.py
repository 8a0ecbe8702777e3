"""RLPR: mean probability of the reference's tokens after the thought, over what they have without any thought."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.final_likelihood import (
    BEFORE_ANSWERS,
    FinalLikelihoodConfig,
    FinalLikelihoodReward,
    ReferenceLikelihoods,
    ShapedValue,
    as_published,
)


class RlprConfig(FinalLikelihoodConfig):
    """Choices of `rlpr`."""

    threshold: float = Field(
        0.005, ge=0, description="A gain up to this is 0 (released shape `threshold_0`: negatives are)."
    )
    format_weight: float = Field(
        0.0, ge=0, le=1, description="Reward = (1 - w) * shaped gain + w * format; released w = 0.1."
    )


class Rlpr(FinalLikelihoodReward[RlprConfig]):
    """Gain in mean token probability, with a share for the format."""

    name = "rlpr"
    summary = "Mean token probability of the reference with the thought minus without it."
    source = "RLPR, arXiv 2506.18254, and its released code (mean_exp_log_softmax, threshold_0)"
    needs = ("reference",)
    equation = "0.9 max(0, mean_t p(g_t | thought) - mean_t p(g_t | empty thought)) + 0.1 format"
    turns = "A turn earns what it raised the mean probability; the last one gets the rest of the reward."
    components = ("gain", "probability", "baseline", "format")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": RlprConfig(),
        "hardened-1": RlprConfig(**BEFORE_ANSWERS),
        "paper": RlprConfig(
            **as_published("</think>\n<answer>"),
            threshold=0,
            format_weight=0.1,
        ),
    }

    def level(self, logprobs: NDArray[np.floating]) -> float:
        """Return the mean probability with the weight that it has in the reward."""
        return (1 - self.config.format_weight) * float(np.exp(logprobs).mean())

    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Return the thresholded gain over the empty thought, mixed with the format."""
        baseline = float(np.exp(priced.empty).mean())
        weight = self.config.format_weight
        found: list[ShapedValue] = []
        for final, valid in zip(priced.finals, priced.valid, strict=True):
            probability = float(np.exp(final).mean())
            gain = probability - baseline if probability - baseline > self.config.threshold else 0.0
            reward = (1 - weight) * gain + weight * float(valid)
            if self.config.guards.format_gate and not valid:
                reward = 0.0
            components = {"gain": gain, "probability": probability, "baseline": baseline, "format": float(valid)}
            found.append(ShapedValue(reward, components))
        return found
