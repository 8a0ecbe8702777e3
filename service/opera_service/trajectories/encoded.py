"""What encoding yields: a group of trajectories as token ids, with every context a reward may price.

Pure data. Encoders (which know tokenizers) make it, rewards (which know none) read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from opera_service.scoring.tree import Ids


@dataclass(frozen=True)
class Segment:
    """One paragraph of the think block."""

    start: int
    """First token in the response."""
    end: int
    """The boundary: one past the last token, separator run included."""
    text: str
    reflective: bool
    """Holds a reflection word, by the rules of the encoding."""


@dataclass(frozen=True)
class EncodedTrajectory:
    """One response with its contexts, longest last."""

    id: str
    text: str
    """The whole response as text."""
    thought: str
    """Text of the first think block, without its tags; empty when there is none."""
    answer: str
    """Text after the think block; the whole response when there is none."""
    segments: tuple[Segment, ...]
    contexts: tuple[Ids, ...]
    """S + 1 contexts: [0] before any thought (the group's `initial`), [k] after segment k - 1. Views of one
    array, not to be written to."""
    full: Ids
    """Prompt + whole response, without the end-of-turn tokens at its end."""
    answer_context: Ids
    """Prompt + response up to where the answer starts."""
    answer_ids: Ids
    """The response's own answer tokens, its end-of-turn token included when the reference's is priced, too;
    empty when it has none."""
    response_tokens: int
    before: str = ""
    """Text of the response before its think block; it is in every context but the first."""
    flags: tuple[str, ...] = ()
    """Those of `Thought`, `text_after_end`, and with `reference_` in front those of the reference."""
    outcome: bool | None = None
    """Right or wrong, for tasks and rewards that need it."""


@dataclass(frozen=True)
class EncodedGroup:
    """Trajectories of one prompt, ready to be planned on a token tree."""

    id: str
    task: str
    prompt_ids: Ids
    initial: Ids
    """Prompt + opened think block: the context before any thought."""
    bridge: Ids
    """Fixed ids fed (never scored) between a context and the reference; may be empty."""
    reference_ids: Ids
    reference: str
    """The reference's text, for guards that compare words."""
    trajectories: tuple[EncodedTrajectory, ...]
    controls: tuple[Ids, ...] = field(default=())
    """Contentless reflective paragraphs; priced after `initial`, they tell what "Wait" alone gains."""
    alternatives: tuple[tuple[str, Ids], ...] = ()
    """Text and ids of further references; `reference` is the first of all."""
    prompt: str = ""
    """The prompt's text, for guards that compare words; words of the prompt are not a leaked reference."""
