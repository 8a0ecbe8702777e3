"""What encoding yields: a group of trajectories as token ids, with every context a reward may price.

Pure data. Encoders (which know tokenizers) make it, rewards (which know none) read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

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
    between: bool = False
    """No paragraph: what stands between the thoughts of two turns, of which `text` is the policy's part. Contexts
    go on after it; nobody is credited for it."""


@dataclass(frozen=True)
class EncodedTurn:
    """One of the policy's turns; a turn ends where the next begins, so what the environment answered is in it."""

    start: int
    """First token in the trajectory."""
    end: int
    """One past the policy's last token."""
    before: Ids
    """Context before its thought: the thought is opened, and was closed at once."""
    after: Ids
    """`before` of the next turn; of the last turn where its own answer begins: after its thought, or after its
    answer in a thought's place where there is no thought in the trajectory and none is required."""


Span = tuple[int, int]
"""[start, end) in the response's tokens."""


@dataclass(frozen=True)
class PolicyTokens:
    """A response as it was sampled, for rewards that read the policy's own tokens."""

    context: Ids
    """What the response follows."""
    ids: Ids
    """The whole response as it was sent; an environment's tokens are in it where there are turns."""
    written: tuple[Span, ...]
    """What the policy wrote, one span a turn: the token that ends a turn is in it, padding behind it is not."""
    thoughts: tuple[Span, ...]
    """Thoughts without their tags, one a turn; empty spans where there is none."""
    answers: tuple[Span, ...]
    """Answers without what ends the turn, one a turn; empty spans where there is none."""


@dataclass(frozen=True)
class EncodedTrajectory:
    """One response with its contexts, longest last.

    Of a trajectory with turns the answer is that of the policy's last turn, and every text is the policy's only.
    """

    id: str
    text: str
    """The whole response as text."""
    thought: str
    """Text of the first think block (one a turn), without its tags; empty when there is none."""
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
    answer_thought: Ids
    """`initial` + the answer without special tokens + a line end: the answer in a thought's place."""
    plain_answer: Ids
    """The answer without any special token, as `answer_thought` holds it; empty when it has none."""
    outside: str
    """Text outside the think block: what stands before it, and the answer."""
    response_tokens: int
    before: str = ""
    """Text of the response before its think block; it is in every context but the first."""
    answer_only: bool = False
    """There is no thought and none is required: the answer stands for the whole response."""
    unmarked: tuple[Ids | None, ...] = ()
    """For every reflective segment the context after it had it been written without its reflection words; None
    for other segments."""
    turns: tuple[EncodedTurn, ...] = ()
    """Those of a trajectory that came with turns."""
    policy: PolicyTokens | None = None
    """None in mode `text`, where contexts are not what was sampled."""
    environment_tokens: int = 0
    """How many tokens of the last of `contexts` are the environment's."""
    flags: tuple[str, ...] = ()
    """Those of `Thought`, `text_after_end`, and with `reference_` in front those of the reference."""
    outcome: bool | None = None
    """Right or wrong, for tasks and rewards that need it."""
    decoded: str | None = None
    """What the ids say, where `text` was given and says something else."""

    @property
    def scored_text(self) -> str:
        """The text of what is scored; guards read this one."""
        return self.text if self.decoded is None else self.decoded


@dataclass(frozen=True)
class Judging:
    """What the model is asked as a judge of a group's answers."""

    prompts: Mapping[tuple[str, ...], Ids]
    """By the ids of the trajectories that are shown, in their order: all up to where a label is said."""
    labels: tuple[Ids, ...]
    """One token each."""


@dataclass(frozen=True)
class EncodedGroup:
    """Trajectories of one prompt, ready to be planned on a token tree."""

    id: str
    task: str
    prompt_ids: Ids
    initial: Ids
    """Prompt + opened think block: the context before any thought."""
    bridge: Ids
    """Fixed ids fed (never scored) between a context and the reference: the closing tag, then the label."""
    close: Ids
    """The part of `bridge` that closes a thought."""
    reference_ids: Ids
    reference: str
    """The reference's text, for guards that compare words."""
    trajectories: tuple[EncodedTrajectory, ...]
    controls: tuple[Ids, ...] = field(default=())
    """Contentless reflective paragraphs; priced after `initial`, they tell what "Wait" alone gains."""
    alternatives: tuple[tuple[str, Ids], ...] = ()
    """Text and ids of further references; `reference` is the first of all."""
    line_end: Ids = field(default_factory=lambda: np.zeros(0, np.int32))
    """What ends a text that stands in a thought's place."""
    explained: bool = True
    """Whether the segments' gains were asked for, also where the reward does not read them."""
    logprob_error: float = 0.0
    """Measured error of one token's log-prob on this engine, in nats; differences below it say nothing."""
    start: Ids = field(default_factory=lambda: np.zeros(0, np.int32))
    """What the tokenizer puts before every text, if the prompt begins with it; some models need it."""
    prompt: str = ""
    """The prompt's text, for guards that compare words; words of the prompt are not a leaked reference."""
    judging: Judging | None = None
    """None where no judge is asked."""
    classes: tuple[int | None, ...] = ()
    """Equal numbers for answers that say the same, None for no answer, one a trajectory; empty where not asked."""
    views: tuple[EncodedGroup, ...] = ()
    """For a sum of rewards: the same trajectories by the rules of each term, in order; the first is this group."""

    def everywhere(self, **changes: Any) -> EncodedGroup:
        """Return the group with some fields changed, in every view."""
        return replace(self, **changes, views=tuple(view.everywhere(**changes) for view in self.views))

    def only(self, kept: Sequence[int]) -> EncodedGroup:
        """Return the group with the trajectories at the positions `kept`, in every view."""
        return replace(
            self,
            trajectories=tuple(self.trajectories[at] for at in kept),
            classes=tuple(self.classes[at] for at in kept) if self.classes else (),
            views=tuple(view.only(kept) for view in self.views),
        )

    @property
    def reference_thought(self) -> Ids:
        """`initial` + the reference + a line end: the reference in a thought's place."""
        return np.concatenate([self.initial, self.reference_ids, self.line_end])

    @property
    def frame(self) -> Ids:
        """What an answer stands behind where nothing was asked: the start of texts, then an empty thought.

        The prompt's last id where that is nothing.
        """
        found = np.concatenate([self.start, self.initial[len(self.prompt_ids) :], self.close])
        return found if len(found) else self.initial[-1:]
