"""Configuration common to all rewards: how trajectories are encoded for them."""

from __future__ import annotations

from pydantic import Field

from opera_service.trajectories.rules import (
    ContextRules,
    ReflectionRules,
    Rules,
    SegmentRules,
    ThinkRules,
)


class RewardConfig(Rules):
    """Encoding rules; rewards add their own sections."""

    think: ThinkRules = Field(default_factory=ThinkRules)
    segment: SegmentRules = Field(default_factory=SegmentRules)
    reflection_words: ReflectionRules = Field(default_factory=ReflectionRules)
    context: ContextRules = Field(default_factory=ContextRules)
