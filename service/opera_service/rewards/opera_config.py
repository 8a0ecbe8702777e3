"""Everything that can be chosen about OPERA's `hardened`; docs/validity.md says what it was chosen on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from opera_service.rewards.config import Judge, RewardConfig
from opera_service.rewards.copying import CopyConfig
from opera_service.rewards.published_config import MathRules
from opera_service.trajectories.encoding_config import AFTER_ANSWERS, ConfigModel, ContextConfig


class ValueConfig(ConfigModel):
    """What one response is worth, in nats per token; an empty response is worth 0."""

    priced: Literal["answer", "thought"] = Field(
        "answer",
        description="After what the reference is priced: the answer in a thought's place, confirmed by precision "
        "and thought; or the thought alone, for scorers that were never shown an answer as a thought.",
    )
    surprise_cap: float = Field(
        5.0, gt=0, description="Nats. A reference token weighs its surprise without any response, at most this."
    )
    clip: float = Field(5.0, gt=0, description="Nats. No token counts for a larger change than this.")
    losses: float = Field(
        0.7, ge=0, le=1, description="What a reference token that became less likely counts, as a share."
    )
    precision_share: float = Field(
        0.5, ge=0, le=1, description="Most that the answer's own lift by the reference adds, as a share."
    )
    precision_padding: float = Field(
        40.0, ge=0, description="Tokens without lift added to every answer: one word has a high lift by chance."
    )
    thought_share: float = Field(
        0.25, ge=0, le=1, description="Most that the thought adds, as a share of what the answer is worth."
    )
    least_relevance: float = Field(
        0.2,
        ge=0,
        description="Nats per token by which the prompt must explain an answer; what explains the reference needs "
        "less. 0: answers that fit every prompt are worth nothing, but lose nothing.",
    )
    relevance_padding: float = Field(20.0, ge=0, description="Tokens without relevance added to every answer.")
    irrelevance_slope: float = Field(
        6.0, ge=0, description="What one nat of missing relevance takes from an answer's worth."
    )

    @property
    def reads_relevance(self) -> bool:
        """Whether answers are priced without the prompt, too."""
        return self.priced == "answer" and self.least_relevance > 0 and self.irrelevance_slope > 0


class ComparisonConfig(ConfigModel):
    """A response against its peers and an empty response."""

    temperature: float = Field(
        0.5, gt=0, description="Nats per token. Fixed, as one member could inflate any that adapts."
    )
    margin: float = Field(
        0.05,
        ge=0,
        description="Nats per token. A group that spreads less says nothing: everybody gets the group's mean. At "
        "least four times the engine's measured error.",
    )


class TotalConfig(ConfigModel):
    """Weights of the components in the reward of an open task."""

    relative: float = Field(1.0, ge=0, description="The comparison with peers and an empty response.")
    reflection: float = Field(
        0.0,
        ge=0,
        description="What reflective paragraphs reach beyond themselves without their markers and beyond "
        "peers that do not reflect. Not shown to be safe to pay; gains are reported either way.",
    )


class OperaConfig(RewardConfig):
    """Everything that can be chosen about `hardened`."""

    context: ContextConfig = AFTER_ANSWERS
    value: ValueConfig = Field(default_factory=ValueConfig)
    copying: CopyConfig = Field(default_factory=CopyConfig)
    comparison: ComparisonConfig = Field(default_factory=ComparisonConfig)
    total: TotalConfig = Field(default_factory=TotalConfig)
    math: MathRules = Field(default_factory=MathRules)

    def judge_of(self, task: str) -> Judge | None:
        """Return the judge of `math` tasks; open tasks have none."""
        return self.math.judge if task == "math" else None
