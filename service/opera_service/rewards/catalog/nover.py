"""NOVER: rank by reasoning perplexity among well-formed trajectories, plus efficiency and format."""

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
from opera_service.rewards.ranks import hard_rank, soft_rank
from opera_service.rewards.reference_logprobs import Logprobs


class NoverConfig(FinalLikelihoodConfig):
    """Choices of `nover`."""

    length_discount: bool = Field(
        False,
        description="Divide the negative log-prob by max(1, 1 + log10 of the thought's tokens), as released: it "
        "pays for length as such.",
    )
    temperature: float | None = Field(
        0.5,
        gt=0,
        description="Nats per token of the soft rank; null: hard places as released, which turn any noise into a "
        "full step.",
    )
    single: float = Field(
        0.5, ge=0, le=1, description="Reasoning reward of the only well-formed trajectory; 1 as released."
    )
    reasoning: float = Field(1.0, ge=0, description="Weight of the rank.")
    efficiency: float = Field(1.0, ge=0, description="Weight of being shorter and better than others.")
    format: float = Field(1.0, ge=0, description="Weight of being well-formed.")


class Nover(FinalLikelihoodReward[NoverConfig]):
    """Reasoning rank, efficiency and format, weighted; 0 for malformed trajectories."""

    name = "nover"
    summary = "Rank of the reference's perplexity after the thought, plus efficiency and format."
    source = "NOVER, arXiv 2505.16022, and its released code"
    needs = ("reference", "group")
    equation = "rank of exp(-mean_t log p / max(1, 1 + log10 |thought|)) + efficiency + format"
    components = ("reasoning", "efficiency", "format")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": NoverConfig(),
        "hardened-1": NoverConfig(**BEFORE_ANSWERS, temperature=None),
        "paper": NoverConfig(
            **as_published("</think>\n", prefix="<answer>\n", suffix="\n</answer>"),
            temperature=None,
            length_discount=True,
            single=1,
        ),
    }

    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Rank the valid trajectories among each other; the others get 0 in everything."""
        config, valid = self.config, priced.valid
        surprise = -priced.means  # log of the reasoning perplexity
        if config.length_discount:
            surprise /= np.maximum(1.0, 1.0 + np.log10(np.maximum(1, priced.thought_tokens)))
        reasoning, efficiency = np.zeros(len(valid)), np.zeros(len(valid))
        reasoning[valid] = _reasoning(surprise[valid], config.single, config.temperature)
        efficiency[valid] = _efficiency(surprise[valid], priced.thought_tokens[valid])
        found: list[ShapedValue] = []
        for index, well_formed in enumerate(valid):
            parts = {
                "reasoning": float(reasoning[index]),
                "efficiency": float(efficiency[index]),
                "format": float(well_formed),
            }
            weights = (config.reasoning, config.efficiency, config.format)
            reward = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
            found.append(ShapedValue(reward, parts))
        return found


def _reasoning(surprise: Logprobs, single: float, temperature: float | None) -> Logprobs:
    """Return (V - rank) / V, rank 0 for the least surprise; ties share their mean (sort order as released)."""
    count = len(surprise)
    if count < 2:
        return np.full(count, single)
    places = hard_rank(-surprise, "average") if temperature is None else soft_rank(-surprise, temperature)
    ranks = (1 - places) * (count - 1)
    return np.asarray((count - ranks) / count)


def _efficiency(surprise: Logprobs, lengths: NDArray[np.int64]) -> Logprobs:
    """Return the share of the others that are both longer and more surprised."""
    if len(surprise) < 2:
        return np.zeros(len(surprise))
    beaten = (lengths[None, :] > lengths[:, None]) & (surprise[None, :] > surprise[:, None])
    return np.asarray(beaten.sum(axis=1) / (len(surprise) - 1))
