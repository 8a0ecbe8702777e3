"""VeriFree: the likelihood of the reference in place of the sampled answer.

It vanishes for long references; a trajectory whose likelihood is below 1e-12 carries the flag `vanishing`.
"""

from __future__ import annotations

from typing import Annotated, Literal

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
from opera_service.rewards.ranks import auto_temperature

VANISHING = 1e-12


class VeriFreeConfig(FinalLikelihoodConfig):
    """Choices of `verifree`."""

    scale: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto", description="R = exp(scale * sum of log-probs); `auto` is 1 / max(1, sqrt(|G| / 8))."
    )


class VeriFree(FinalLikelihoodReward[VeriFreeConfig]):
    """Likelihood of the whole reference after the thought; 0 without a closed thought and an answer."""

    name = "verifree"
    summary = "Likelihood of the whole reference in place of the sampled answer."
    source = "VeriFree, arXiv 2505.21493, and its released code (reward_source `p`)"
    needs = ("reference",)
    equation = "exp Σ_t log p(g_t | thought); 0 for a broken format"
    turns = "A turn earns what it raised the likelihood; the last one gets the rest of the reward."
    components = ("likelihood", "logprob")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": VeriFreeConfig(),
        "hardened-1": VeriFreeConfig(**BEFORE_ANSWERS),
        "paper": VeriFreeConfig(**as_published("</think>\n<answer>"), scale=1),
    }

    def level(self, logprobs: NDArray[np.floating]) -> float:
        """Return the likelihood of the whole reference."""
        scale = 1 / auto_temperature(len(logprobs)) if self.config.scale == "auto" else self.config.scale
        return float(np.exp(scale * logprobs.sum()))

    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Return exp(scale * sum) for valid trajectories, 0 for others (log R = -inf in the released code)."""
        found: list[ShapedValue] = []
        for final, valid in zip(priced.finals, priced.valid, strict=True):
            likelihood = self.level(final)
            flags = ("vanishing",) if likelihood < VANISHING else ()
            components = {"likelihood": likelihood, "logprob": float(final.sum())}
            found.append(ShapedValue(likelihood if valid else 0.0, components, flags))
        return found
