"""TTRV: how often the group gave an answer, less how much the group disagrees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.answer_counts import CountConfig, CountReward, Counts


class TtrvConfig(CountConfig):
    """Choices of `ttrv`."""

    diversity: float = Field(1.0, ge=0, description="α: what a nat of the answers' entropy costs everybody.")


class Ttrv(CountReward[TtrvConfig]):
    """Frequency and negative entropy of the answers."""

    name = "ttrv"
    summary = "How often the group gave the same answer, less the entropy of its answers, without any reference."
    source = "TTRV, CVPR 2026 (formula from secondary notes)"
    needs = ("group",)
    equation = "r_i = n_c(i) / G - α H(p)"
    unsettled = (
        "α is not known; 1 is assumed.",
        "The entropy is the same for all of a group: it vanishes where a group's mean is subtracted.",
    )
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": TtrvConfig(diversity=0.0),
        "paper": TtrvConfig(),
    }

    def values(self, counts: Counts) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Return shares less the entropy; answers that nobody repeats say nothing."""
        rewards = counts.shares - self.config.diversity * counts.entropy
        return rewards, ("uninformative",) if counts.distinct == counts.size else ()
