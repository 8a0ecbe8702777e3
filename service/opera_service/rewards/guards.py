"""Text guards against being paid for nothing: broken format, repeated paragraphs, copies of the reference.

They read words only; no tokenizer and no log-prob is involved.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import Field

from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory
from opera_service.trajectories.encoding_config import ConfigModel

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


class GuardConfig(ConfigModel):
    """Checks on the text that decide what is priced and paid."""

    format_gate: bool = Field(
        True, description="Pay nothing without a closed think block and a non-empty answer (D19)."
    )
    copy_ngram: int | None = Field(
        13, ge=2, description="A run of this many reference words in the thought is a copy; null: off (D18)."
    )
    copy_share: float | None = Field(
        0.5, gt=0, lt=1, description="So is more than this share of the reference's 5-grams; null: off (D18)."
    )
    copy_min_words: int = Field(
        32, ge=1, description="Shorter references are not guarded: thinking of the answer quotes them."
    )


OFF = GuardConfig(format_gate=False, copy_ngram=None, copy_share=None)


def words(text: str) -> list[str]:
    """Return the case-folded words of `text`; a Chinese or Japanese character is a word of its own."""
    return _WORD.findall(text.casefold())


def malformed(trajectory: EncodedTrajectory) -> bool:
    """Say whether the think block is missing or unclosed, or the answer empty (D19)."""
    return bool({"think_missing", "think_unclosed", "empty_answer"}.intersection(trajectory.flags)) or (
        not trajectory.answer.strip()
    )


def repeats(text: str, earlier: Iterable[str], threshold: float) -> bool:
    """Say whether `text` shares at least `threshold` of its words (multiset Jaccard) with an earlier text."""
    own = Counter(words(text))
    for other in map(Counter, map(words, earlier)):
        union = (own | other).total()
        if union and (own & other).total() >= threshold * union:
            return True
    return False


def _grams(tokens: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]


class CopyGuard:
    """Finds where a thought starts to copy one group's reference. What the prompt itself says is no copy."""

    def __init__(self, group: EncodedGroup, rules: GuardConfig) -> None:
        reference, prompt = words(group.reference), words(group.prompt)
        self._rules = rules
        self._active = len(reference) >= rules.copy_min_words
        self._long = (
            set(_grams(reference, rules.copy_ngram)) - set(_grams(prompt, rules.copy_ngram))
            if self._active and rules.copy_ngram
            else set()
        )
        self._short = (
            set(_grams(reference, 5)) - set(_grams(prompt, 5)) if self._active and rules.copy_share else set()
        )

    def first_copy(self, trajectory: EncodedTrajectory) -> int | None:
        """Return the index of the first copying segment, None when the thought does not copy.

        What stands before the think block and the thought are read as one stream of words, so a copy that is cut
        into paragraphs, or begins before the block, is still found.
        """
        if not self._active:
            return None
        stream = words(trajectory.before)
        owner = [0] * len(stream)
        for index, segment in enumerate(trajectory.segments):
            found = words(segment.text)
            stream += found
            owner += [index] * len(found)
        starts: list[int] = []
        if self._long and self._rules.copy_ngram:
            hits = [at for at, gram in enumerate(_grams(stream, self._rules.copy_ngram)) if gram in self._long]
            starts += hits[:1]
        if self._short and self._rules.copy_share:
            grams = _grams(stream, 5)
            hits = [at for at, gram in enumerate(grams) if gram in self._short]
            if len({grams[at] for at in hits}) > self._rules.copy_share * len(self._short):
                starts += hits[:1]
        return owner[min(starts)] if starts else None
