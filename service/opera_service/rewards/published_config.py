"""What can be chosen about OPERA as released, and the two named choices: presets `paper` and `hardened-1`.

Which defect (D1 … D23) a setting closes is in its description. Knows no log-probs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opera_service.rewards.config import EmaRules, Judge, RewardConfig
from opera_service.rewards.guards import OFF, GuardConfig
from opera_service.rewards.ranks import Ties
from opera_service.trajectories.encoding_config import (
    ConfigModel,
    ContextConfig,
    ReflectionConfig,
    SegmentConfig,
    ThinkConfig,
)


class RelativeRules(ConfigModel):
    """A trajectory against its group (IGRP, the paper's in-group relative perplexity)."""

    mode: Literal["likelihood", "rank", "soft_rank"] = Field(
        "likelihood",
        description="`likelihood`: exp of the distance to the group's best price; `rank`: the paper's; "
        "`soft_rank`: mean sigmoid of the distances to the peers (D13).",
    )
    ties: Ties = Field("average", description="Place of tied members in `rank`; `low` as released (D12).")
    temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="Nats. Small: the winner takes all; large: like a rank. `auto` is max(1, sqrt(|G| / 8)), as "
        "the noise of a sum grows; 1 and 4 were trained, at |G| of about 8.",
    )
    margin: float = Field(
        0.02,
        ge=0,
        description="A group whose prices spread by less than margin * sqrt(|G|) nats carries no information "
        "(D13). The default is about three times bf16's rounding noise per token.",
    )
    neutral: float = Field(
        0.5, ge=0, le=1, description="What a group of one or without information gets (D12; released: 1)."
    )


class ReflectionReward(ConfigModel):
    """What reflective segments are paid for."""

    credit: Literal["record", "previous"] = Field(
        "record",
        description="A segment counts when it beats everything before it, or (as released) the previous "
        "segment (D16).",
    )
    pay: Literal["climb", "count"] = Field(
        "climb",
        description="`climb`: likelihood won by credited segments, times where the thought ends; `count`: tanh of "
        "how many are credited, as released (D15, D17).",
    )
    scale: float = Field(2.0, gt=0, description="`count`: tanh(count / scale).")
    margin: Annotated[float, Field(ge=0)] | Literal["calibrated"] = Field(
        "calibrated",
        description="Gain, in nats per reference token, that proves nothing. `calibrated`: mean + 2 sd of what "
        "contentless control paragraphs gain in the same group (D15).",
    )
    margin_floor: float = Field(
        0.005, ge=0, description="Least calibrated margin: numeric noise of a mean log-prob in bf16."
    )
    margin_fallback: float = Field(
        0.05, ge=0, description="Least margin when there are fewer than two controls to calibrate it."
    )
    min_tokens: int = Field(8, ge=0, description="Shorter segments are never credited (D17).")
    duplicate: float | None = Field(
        0.9,
        gt=0,
        le=1,
        description="Shared words that make a segment a repeat of an earlier one; null: off (D17).",
    )


class TotalRules(ConfigModel):
    """Weights of the components in the reward of an open task. null: not computed; 0: reported, not paid."""

    relative: float = Field(1.0, ge=0, description="The final price against the group's.")
    reflection: float = Field(
        0.5, ge=0, description="What reflection won; weights 0 and 1 were trained, both learn."
    )
    consistency: float | None = Field(
        0.5, ge=0, description="exp(mean log-prob of the response's own answer after its own thought)."
    )
    level: float | None = Field(0.0, ge=0, description="exp(mean log-prob of the reference): is anybody good?")
    improvement: float | None = Field(
        None, ge=0, description="sigmoid of final minus initial mean log-prob, computed but unused when released."
    )


class MathRules(ConfigModel):
    """Tasks with a right answer: reward = outcome * ((1 - intrinsic) + intrinsic * relative)."""

    judge: Judge = Field(
        "math_verify",
        description="`math_verify`: last box with balanced braces, compared as mathematics; `boxed_exact`: the "
        "released regular expression and string equality (D20).",
    )
    intrinsic: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of `relative` in a right answer's reward; 0 as released, .2 its commented variant.",
    )
    zero_wrong: bool = Field(
        False, description="Report zero components for a wrong answer, as the released code does."
    )


class PublishedConfig(RewardConfig):
    """Everything that can be chosen about OPERA as released; the defaults are the preset `hardened-1`."""

    final: Literal["thought", "response"] = Field(
        "thought",
        description="Where the reference is priced: after the closed thought, so that copying the reference into "
        "the answer pays nothing, or after the whole response as released (D18).",
    )
    relative: RelativeRules = Field(default_factory=RelativeRules)
    reflection: ReflectionReward = Field(default_factory=ReflectionReward)
    total: TotalRules = Field(default_factory=TotalRules)
    math: MathRules = Field(default_factory=MathRules)
    guards: GuardConfig = Field(default_factory=GuardConfig)

    def judge_of(self, task: str) -> Judge | None:
        """Return the judge of `math` tasks; open tasks have none."""
        return self.math.judge if task == "math" else None


PAPER = PublishedConfig(
    think=ThinkConfig(open="<think>", close="</think>"),
    segment=SegmentConfig(min_tokens=0, max_segments=None),
    reflection_words=ReflectionConfig(languages=("authors",), match="substring", where="anywhere"),
    context=ContextConfig(
        mode="text", opening="<think>", bridge="", reference_part="full", score_end=False, controls=False
    ),
    ema=EmaRules(),
    final="response",
    relative=RelativeRules(mode="rank", ties="low", margin=0, neutral=1),
    reflection=ReflectionReward(credit="previous", pay="count", margin=0, min_tokens=0, duplicate=None),
    total=TotalRules(relative=0.3, reflection=0.7, consistency=None, level=None),
    math=MathRules(judge="boxed_exact", intrinsic=0, zero_wrong=True),
    guards=OFF,
)


HARDENED_1 = PublishedConfig()
