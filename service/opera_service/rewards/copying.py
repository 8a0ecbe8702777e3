"""Does a response copy the reference? One normalised text for every comparison of words.

Overlap cannot tell a copy from a very good answer, so little follows from it: a flagged member is paid like the
best member that is not flagged. Works on words of any script and on code; knows no tokens and no log-probs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from pydantic import Field

from opera_service.trajectories.encoding_config import ConfigModel

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_IDEOGRAPHS = re.compile(rf"[{_CJK}]")
_HYPHEN_IN_WORD = re.compile(r"(?<=[^\W\d_])[-\u2010-\u2013\u00ad](?=[^\W\d_])")
_LOOKALIKES = str.maketrans("асеорхуіјѕАВЕКМНОРСТХ", "aceopxyijsABEKMHOPCTX")
"""Cyrillic letters that look like Latin ones; in a text of their own language both sides are changed alike."""
_SHORT = 4
"""Words of fewer letters are mostly grammar: "the", "and", "für", "los"."""


class CopyConfig(ConfigModel):
    """When an answer holds so much of the reference that its closeness proves nothing."""

    coverage: float | None = Field(
        0.6,
        gt=0,
        le=1,
        description="Share of the reference's content words, in any order, from which an answer is a copy; null: "
        "off. Real answers reach .6 in about two cases in a hundred.",
    )
    min_words: int = Field(
        8, ge=1, description="References with fewer content words that the prompt does not hold are not guarded."
    )


def normalised(text: str) -> str:
    """Return `text` as a reader sees it: one form a character, no invisible ones, no hyphenation."""
    text = unicodedata.normalize("NFKC", text)
    text = "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Mn", "Cc") or char in "\n\t")
    return _HYPHEN_IN_WORD.sub("", text).translate(_LOOKALIKES).casefold()


def content_words(text: str) -> Counter[str]:
    """Count the words that carry content: four letters and more, numbers, pairs of neighbouring ideographs.

    A run of Chinese or Japanese has no blanks, and its single characters are in every text; pairs are words or
    parts of words. Names in code are cut at underscores.
    """
    found: Counter[str] = Counter()
    for piece in _PIECE.findall(normalised(text)):
        if _IDEOGRAPHS.match(piece):
            found.update(piece[at : at + 2] for at in range(max(1, len(piece) - 1)))
        elif len(piece) >= _SHORT or piece.isdigit():
            found[piece] += 1
    return found


class CopyGuard:
    """Measures how much of one reference's content a text holds; words of the prompt do not count."""

    def __init__(self, reference: str, prompt: str, rules: CopyConfig) -> None:
        known = content_words(prompt)
        self._words = Counter({word: n for word, n in content_words(reference).items() if word not in known})
        self._rules = rules

    @property
    def active(self) -> bool:
        """Whether the reference is long enough to tell a copy from an answer."""
        return self._rules.coverage is not None and self._words.total() >= self._rules.min_words

    def coverage(self, text: str) -> float:
        """Return the share of the reference's content words that `text` holds, in any order; 0 without any."""
        total = self._words.total()
        return (self._words & content_words(text)).total() / total if total else 0.0

    def copied(self, text: str) -> bool:
        """Say whether `text` holds so much of the reference that its closeness proves nothing."""
        return self.active and self.coverage(text) >= (self._rules.coverage or 1.0)
