"""An answer with what it cost, for whoever sends it: some answers do not say so themselves."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from opera_client.wire import ExpandResult, RankResult, RewardResult, ScoreResult, Timing, Usage

CostedResult = RewardResult | RankResult | ExpandResult | ScoreResult
"""Answers that say themselves what they cost."""


@dataclass(frozen=True)
class Costed:
    """What a pipeline made of a request."""

    answer: BaseModel
    usage: Usage
    timing: Timing
    weight_version: str
    """The weights that scored."""

    @classmethod
    def of(cls, result: CostedResult) -> Costed:
        """Return an answer with the cost that it says."""
        return cls(result, result.usage, result.timing_ms, result.model.weight_version)
