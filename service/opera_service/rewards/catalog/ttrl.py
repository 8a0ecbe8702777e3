"""TTRL: the answer that most of the group gave is taken for the right one."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.answer_counts import CountConfig, CountReward, Counts


class TtrlConfig(CountConfig):
    """Choices of `ttrl`."""

    ties: Literal["first", "none"] = Field(
        "none", description="Of answers given equally often `first` takes the first in the request, `none` nobody."
    )
    least_share: float = Field(
        0.0, ge=0, le=1, description="Share of the group that the majority must have, or nobody is paid."
    )


class Ttrl(CountReward[TtrlConfig]):
    """Majority vote as the label."""

    name = "ttrl"
    summary = "1 for the answer that most of the group gave, without any reference."
    source = "TTRL, arXiv 2504.16084; SPINE and TTRV start from it"
    needs = ("group",)
    equation = "r_i = 1 if answer_i = the group's most frequent answer, else 0"
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": TtrlConfig(least_share=0.5),
        "paper": TtrlConfig(ties="first"),
    }

    def values(self, counts: Counts) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Return 1 for the majority; nobody is one where the vote is not clear."""
        none = np.zeros(counts.size), ("uninformative",)
        if not counts.distinct:
            return none
        most = int(counts.counts.max())
        winners = np.flatnonzero(counts.counts == most)
        tied = len(winners) > 1 and self.config.ties == "none"
        if tied or most < self.config.least_share * counts.size:
            return none
        return np.array([float(one == winners[0]) for one in counts.classes]), ()
