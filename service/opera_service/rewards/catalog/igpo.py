"""IGPO: information gain, turn by turn, towards the reference.

The reward is the sum of the turns' gains, which telescopes to end minus start. The gains are in the steps of a
trajectory that came with turns, for trainers that place r_t = p_t - p_{t-1} on the last token of each turn. What
the environment answered to a turn belongs to it, as in the paper. There the last turn is paid by the F1 of its own
answer, here by what its thought adds. A response without turns is one turn.
"""

from __future__ import annotations

from typing import Literal

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
    """Information gained by the whole trajectory."""

    name = "igpo"
    summary = "How much the trajectory, turn by turn, raised the reference's mean token probability."
    source = (
        "IGPO, arXiv 2510.14967; formula from a reimplementation that quotes the original; bridge in our words"
    )
    needs = ("reference",)
    equation = "Σ over turns of exp(mean_t log p(g_t | after)) - exp(mean_t log p(g_t | before))"
    unsettled = ("The formula is from a reimplementation that quotes the original; the bridge is in our words.",)
    turns = (
        "A turn earns what it raised the reference's probability, together with what the environment answered to "
        "it; the last one what its thought did. The steps add up to the reward."
    )
    components = ("gain", "final")
    with_steps = True
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": IgpoConfig(),
        "hardened-1": IgpoConfig(**BEFORE_ANSWERS),
        "paper": IgpoConfig(
            **as_published("\nI have enough information to answer now.</think><answer>"),
        ),
    }

    def level(self, logprobs: NDArray[np.floating]) -> float:
        """Return the mean log-prob, as a probability or itself."""
        mean = logprobs.mean()
        return float(np.exp(mean) if self.config.unit == "probability" else mean)

    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Return final minus empty thought, in the chosen unit."""
        start = self.level(priced.empty)
        found: list[ShapedValue] = []
        for final, valid in zip(priced.finals, priced.valid, strict=True):
            end = self.level(final)
            gated = self.config.guards.format_gate and not valid
            reward = self.config.invalid if gated else end - start
            found.append(ShapedValue(reward, {"gain": end - start, "final": end}))
        return found
