"""IGPO: information gain, turn by turn, towards the reference; here a turn is a segment of the thought.

The reward is the sum of the turns' gains, which telescopes to end minus start. The turns' own prices are in the
segments, for trainers that place r_t = p_t - p_{t-1} on the last token of each turn.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from opera_service.rewards.final_likelihood import (
    BEFORE_ANSWERS,
    FinalLikelihoodConfig,
    FinalLikelihoodReward,
    ReferenceLikelihoods,
    ShapedValue,
    as_published,
)


class IgpoConfig(FinalLikelihoodConfig):
    """Choices of `igpo`."""

    unit: Literal["probability", "logprob"] = Field(
        "probability", description="p = exp(mean log-prob), bounded; or the mean log-prob itself."
    )
    invalid: float = Field(
        -1.0,
        le=0,
        description="Reward of a trajectory that fails the format gate; -1 is the least in probability.",
    )


class Igpo(FinalLikelihoodReward[IgpoConfig]):
    """Information gained by the whole thought."""

    name = "igpo"
    summary = "How much the thought, segment by segment, raised the reference's mean token probability."
    source = (
        "IGPO, arXiv 2510.14967; formula from a reimplementation that quotes the original; bridge in our words"
    )
    needs = ("reference",)
    components = ("gain", "final")
    with_steps = True
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": IgpoConfig(),
        "hardened-1": IgpoConfig(**BEFORE_ANSWERS),
        "paper": IgpoConfig(
            **as_published("\nI have enough information to answer now.</think><answer>"),
        ),
    }

    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Return final minus empty thought, in the chosen unit."""
        level = np.exp if self.config.unit == "probability" else np.asarray
        start = float(level(priced.empty.mean()))
        found: list[ShapedValue] = []
        for mean, valid in zip(priced.means, priced.valid, strict=True):
            end = float(level(mean))
            gated = self.config.guards.format_gate and not valid
            reward = self.config.invalid if gated else end - start
            found.append(ShapedValue(reward, {"gain": end - start, "final": end}))
        return found
