"""How text becomes contexts: every choice a reward's configuration can make about encoding.

Presets override the defaults: `paper` ones to follow the authors' code, `hardened` ones with `AFTER_ANSWERS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints, field_validator, model_validator

from opera_service.trajectories.think_tags import DEFAULT, ThinkTags

Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]

LONGEST_TEXT = 4096
"""Of a configuration, in characters: each is tokenised for every group."""
MOST_SEGMENTS = 1024
"""Of one thought: each is a context of its own for the model, and longer than the ones before it."""
LARGEST_NUMBER = 1e6
"""Of a configuration: sums and products of weights stay finite, and rewards keep their digits."""


class ConfigModel(BaseModel):
    """Base of all configuration: frozen, unknown keys refused, numbers with which one can calculate."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _within_reason(cls, value: object) -> object:
        if isinstance(value, int | float) and abs(value) > LARGEST_NUMBER:
            raise ValueError(f"must be within ±{LARGEST_NUMBER:g}")
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise ValueError(f"must have at most {LONGEST_TEXT} characters")
        return value


class ThinkConfig(ConfigModel):
    """Where the thought is."""

    mode: Literal["required", "optional", "none"] = Field(
        "required",
        description="`required`: a response without a closed think block is malformed; `optional`: it is "
        "priced as an answer; `none`: every response is all answer, tags in it are text.",
    )
    open: str = Field(
        "", max_length=100, description="Opening tag; by default that of the model's template, else `<think>`."
    )
    close: str = Field(
        "", max_length=100, description="Closing tag; by default that of the model's template, else `</think>`."
    )

    @model_validator(mode="after")
    def _both_or_none(self) -> ThinkConfig:
        if bool(self.open) != bool(self.close):
            raise ValueError("give both `open` and `close`, or neither")
        return self

    @property
    def open_tag(self) -> bytes:
        return (self.open or DEFAULT.open).encode()

    @property
    def close_tag(self) -> bytes:
        """The closing tag in UTF-8."""
        return (self.close or DEFAULT.close).encode()


class SegmentConfig(ConfigModel):
    """How the thought is cut into segments, in mode `ids`; mode `text` splits as the authors' code does."""

    separator: str = Field("\n\n", min_length=1, max_length=100, description="Paragraph separator.")
    min_tokens: int = Field(8, ge=0, description="Shorter paragraphs are merged into the next one (defect D17).")
    max_segments: int | None = Field(
        64, ge=1, le=MOST_SEGMENTS,
        description=f"Paragraphs past this are merged into the last (D9), in both modes; null: {MOST_SEGMENTS}.",
    )  # fmt: skip

    @property
    def most(self) -> int:
        """How many segments there can be."""
        return MOST_SEGMENTS if self.max_segments is None else self.max_segments


class ReflectionConfig(ConfigModel):
    """What makes a segment reflective."""

    languages: tuple[Literal["authors", "en", "zh"], ...] = Field(
        ("en", "zh"),
        max_length=3,
        description="Built-in word lists; `authors` is the released code's list of five.",
    )
    words: Annotated[tuple[Word, ...], FailFast()] = Field(
        (), max_length=256, description="Words added to the lists, 256 at most."
    )
    match: Literal["word", "substring"] = Field("word", description="`substring` finds 'but' in 'butter' (D14).")
    where: Literal["start", "anywhere"] = Field(
        "start", description="Only at the start of a sentence or paragraph, or anywhere in it."
    )


class ContextConfig(ConfigModel):
    """What stands before the reference, and which part of the reference is priced."""

    mode: Literal["ids", "text"] = Field(
        "ids",
        description="`ids`: literal prefixes of the rollout's tokens; `text`: decode, join, re-encode (D4).",
    )
    opening: str | None = Field(
        None,
        description="Appended to a prompt that has not opened its think block; by default the opening tag as the "
        "model writes it. Mode `text` uses the bare tag.",
    )
    bridge: str | None = Field(
        None,
        description="Fed, not scored, between context and reference (D5); by default the closing tag as the model "
        "writes it.",
    )
    label: str = Field(
        "",
        description="Fed, not scored, after the bridge. Without one the first token of a short reference costs so "
        "much that a wrong answer often looks better than the right one.",
    )
    reference_part: Literal["full", "answer"] = Field(
        "answer", description="`answer` drops a leading think block of the reference."
    )
    reference_prefix: str = Field(
        "",
        description="Priced with the reference, before it (NOVER's opening tag). Tokenised on its own, then "
        "joined as ids, so that it never merges with the reference.",
    )
    reference_suffix: str = Field(
        "", description="Priced with the reference, after it and before the end token; tokenised on its own."
    )
    score_end: bool = Field(
        True,
        description="Price the end-of-turn token after the reference, too. It inverts short references: after the "
        "right answer it costs more than after a wrong one.",
    )
    add_special_tokens: bool = Field(
        True,
        description="Start a prompt that comes as text as the model's tokenizer starts texts (with a start token, "
        "mostly); messages and ids are complete by themselves.",
    )
    controls: bool = Field(True, description="Encode contentless control paragraphs for the margin (D15).")


AFTER_ANSWERS = ContextConfig(label="Answer:\n", score_end=False, controls=False)
"""Where the `hardened` presets price the reference: labelled, without its end."""


class EncodingConfig(Protocol):
    """All rules together; every reward's configuration is one."""

    @property
    def think(self) -> ThinkConfig:
        """Where the thought is."""
        ...

    @property
    def segment(self) -> SegmentConfig: ...

    @property
    def reflection_words(self) -> ReflectionConfig: ...

    @property
    def context(self) -> ContextConfig:
        """What stands before the reference."""
        ...


@dataclass(frozen=True)
class ResolvedEncoding:
    """Rules with nothing left open: tags, opening and bridge are set."""

    think: ThinkConfig
    segment: SegmentConfig
    reflection_words: ReflectionConfig
    context: ContextConfig

    @classmethod
    def of(cls, rules: EncodingConfig, model: ThinkTags) -> ResolvedEncoding:
        """Fill in the tags of `model` where `rules` say nothing; opening and bridge follow the tags."""
        own, context = rules.think, rules.context
        differ = own.open and (own.open, own.close) != (model.open, model.close)
        tags = ThinkTags.of(own.open, own.close, "config") if differ else model
        opening = tags.opening if context.opening is None else context.opening
        bridge = tags.bridge if context.bridge is None else context.bridge
        return cls(
            think=own.model_copy(update={"open": tags.open, "close": tags.close}),
            segment=rules.segment,
            reflection_words=rules.reflection_words,
            context=context.model_copy(update={"opening": opening, "bridge": bridge}),
        )
