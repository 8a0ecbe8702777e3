"""Configuration common to all rewards: how trajectories are encoded for them, and what is judged or reported."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from opera_service.trajectories.encoding_config import (
    ConfigModel,
    ContextConfig,
    ReflectionConfig,
    SegmentConfig,
    ThinkConfig,
)
from opera_service.trajectories.judge_prompts import JudgeRules

Combination = Literal["mean", "max", "min", "logmeanexp"]
Judge = Literal["boxed_exact", "math_verify"]
Equality = Literal["math", "text"]
"""When two answers say the same: their last boxes are the same mathematics, or their words are the same."""


class EmaRules(ConfigModel):
    """The running mean reported beside the rewards (released code: `GlobalEMA`, `ppl_ema_baseline`)."""

    alpha: float = Field(0.1, gt=0, le=1, description="Weight of a new step's mean.")
    mix: float = Field(0.2, ge=0, le=1, description="Share of the running mean in a smoothed log-prob.")


class RewardConfig(ConfigModel):
    """Encoding rules; rewards add their own sections."""

    think: ThinkConfig = Field(default_factory=ThinkConfig)
    segment: SegmentConfig = Field(default_factory=SegmentConfig)
    reflection_words: ReflectionConfig = Field(default_factory=ReflectionConfig)
    context: ContextConfig = Field(default_factory=ContextConfig)
    references: Combination = Field(
        "mean",
        description="How the rewards by several alternative references become one: reward, components and the "
        "segments' gains alike.",
    )
    ema: EmaRules | None = Field(None, description="Running mean of the run's log-probs; a metric only (D11).")

    def judge_of(self, task: str) -> Judge | None:  # noqa: ARG002 (rewards that judge override it)
        """Return how right and wrong are told apart for `task`; None where the reward needs no outcome."""
        return None

    def judge_rules(self) -> JudgeRules | None:
        """Return what the model is asked as a judge; None where it is not."""
        return None

    def classes_of(self, task: str) -> Equality | None:  # noqa: ARG002 (rewards that compare answers override it)
        """Return how answers of a group are sorted into classes; None where the reward needs none."""
        return None
