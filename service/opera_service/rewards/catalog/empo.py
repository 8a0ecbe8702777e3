"""EMPO: an answer is worth how often the group gave it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.answer_counts import CountConfig, CountReward, Counts


class EmpoConfig(CountConfig):
    """Choices of `empo`."""

    most_entropy: float | None = Field(
        None, gt=0, description="Nats. A group whose answers have more pays nothing; null: only ln G itself."
    )
    least_entropy: float = Field(
        0.0, ge=0, description="Nats. A group whose answers have no more says nothing new, and is flagged."
    )


class Empo(CountReward[EmpoConfig]):
    """Cluster probabilities, without any reference."""

    name = "empo"
    summary = "How often the group gave the same answer: less semantic entropy, without any reference."
    source = "EMPO, arXiv 2504.05812, and its released code"
    needs = ("group",)
    equation = "r_i = n_c(i) / G; 0 without an answer, and for all where every answer is different"
    unsettled = (
        "The paper trains on groups with δ_low < H < δ_high and names no values: `most_entropy`, `least_entropy`.",
        "For free text the released code asks an entailment model which answers agree; here words are compared.",
    )
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": EmpoConfig(most_entropy=1.0),
        "paper": EmpoConfig(),
    }

    def values(self, counts: Counts) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Return cluster probabilities, or zeros for a group that agrees on nothing."""
        entropy, most = counts.entropy, self.config.most_entropy
        scattered = counts.distinct > 1 and (
            entropy >= np.log(counts.size) - 1e-9 or (most is not None and entropy > most)
        )
        if scattered:
            return np.zeros(counts.size), ("uninformative",)
        return counts.shares, ("no_spread",) if entropy <= self.config.least_entropy else ()
