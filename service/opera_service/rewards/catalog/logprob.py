"""Log-prob of the reference after the thought, summed or averaged.

Warning, measured on a small world: trained on alone, an empty thought becomes the safe harbour, because a wrong
thought costs more than a right one wins. docs/rewards.md has the numbers.
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


class LogprobConfig(FinalLikelihoodConfig):
    """Choices of `logprob`."""

    reduction: Literal["sum", "mean"] = Field(
        "mean", description="Within a group both order alike; they differ by the factor |G| only."
    )
    clip: float | None = Field(
        10.0,
        gt=0,
        description="A token counts at least minus this many nats, so that one cannot outweigh the rest.",
    )
    invalid: float = Field(
        -10.0, le=0, description="Mean log-prob taken for a trajectory that fails the format gate."
    )


class Logprob(FinalLikelihoodReward[LogprobConfig]):
    """Sum or mean log-prob of the reference."""

    name = "logprob"
    summary = "Log-prob of the reference after the thought, summed or averaged over its tokens."
    source = (
        "Likelihood-Based Reward Designs for General LLM Reasoning, arXiv 2602.03979: log-prob, average log-prob"
    )
    needs = ("reference",)
    equation = "Σ_t log p(g_t | thought, g_<t), or its mean over t"
    turns = "A turn earns what it raised the log-prob; the last one gets the rest of the reward."
    components = ("sum", "mean")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": LogprobConfig(),
        "hardened-1": LogprobConfig(**BEFORE_ANSWERS),
        "paper": LogprobConfig(
            **as_published("</think>\n\n"),
            reduction="sum",
            clip=None,
        ),
    }

    def level(self, logprobs: NDArray[np.floating]) -> float:
        """Return the chosen reduction of the clipped log-probs."""
        return self._reductions(logprobs)[self.config.reduction]

    def _reductions(self, logprobs: NDArray[np.floating]) -> dict[str, float]:
        tokens = logprobs if self.config.clip is None else np.maximum(logprobs, -self.config.clip)
        return {"sum": float(tokens.sum()), "mean": float(tokens.mean())}

    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Return the chosen reduction; both are reported."""
        found: list[ShapedValue] = []
        for final, valid in zip(priced.finals, priced.valid, strict=True):
            components = self._reductions(final)
            reward = components[self.config.reduction]
            if self.config.guards.format_gate and not valid:
                reward = self.config.invalid * (len(final) if self.config.reduction == "sum" else 1)
            found.append(ShapedValue(reward, components))
        return found
