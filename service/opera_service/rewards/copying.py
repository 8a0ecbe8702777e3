"""Does a response copy the reference? One normalised text for every comparison of words.

Four measures, each for what the others miss: words in any order, words in the reference's order, whether the
response is made of stretches of the reference, and whether it is the reference with words left out. Overlap cannot
tell a copy from a very good answer, so little follows from it: a flagged member is paid like the best member that
is not flagged. Works on words of any script, and on code; knows no tokens and no log-probs.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from pydantic import Field

from opera_service.rewards.verdict_cache import VerdictCache
from opera_service.trajectories.encoding_config import ConfigModel

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED = (
    "\u0e01-\u0e4e\u0e50-\u0e59\u0e81-\u0ece\u0ed0-\u0edf\u1000-\u1049\u1050-\u109f\u1780-\u17d3\u17e0-\u17e9"
)
"""Letters of Thai, Lao, Burmese and Khmer, which put no blanks between words."""
_INDIC = "\u0900-\u0963\u0966-\u0dff"
"""Letters and vowel signs of the scripts from Devanagari to Sinhala; signs are no letters to `re`."""
_PIECE = re.compile(rf"[{_CJK}]+|[{_UNSPACED}]+|(?:[^\W_{_CJK}{_UNSPACED}]|[{_INDIC}])+")
_IDEOGRAPHS, _LETTERS = re.compile(rf"[{_CJK}]"), re.compile(rf"[{_UNSPACED}]")
_SYLLABLES = re.compile(rf"[{_INDIC}\u0f00-\u0fff\u1200-\u139f\uac00-\ud7a3]")
"""Scripts that write about a syllable with a character: Indic ones, Tibetan, Ethiopic, Hangul."""
_HYPHEN_IN_WORD = re.compile(r"(?<=[^\W\d_])[-\u2010-\u2013\u00ad](?=[^\W\d_])")
_LOOKALIKES = str.maketrans("асеорхуіјѕАВЕКМНОРСТХ", "aceopxyijsABEKMHOPCTX")
"""Cyrillic letters that look like Latin ones; in a text of their own language both sides are changed alike."""
_SHORT, _SHORT_SYLLABLES = 4, 2
"""Words of fewer letters, or characters of a syllable, are mostly grammar: "the", "and", "für", "los", "이"."""
_NEIGHBOURS = 4
"""Letters of a script without blanks that are read together, as if they were a word."""


class CopyConfig(ConfigModel):
    """When an answer holds so much of the reference that its closeness proves nothing."""

    coverage: float | None = Field(
        0.6,
        gt=0,
        le=1,
        description="Share of the reference's content words, in any order, from which an answer is a copy; null: "
        "off.",
    )
    aligned: float | None = Field(
        0.7,
        gt=0,
        le=1,
        description="Share of all words of the reference, in its order, from which an answer is a copy: one with "
        "words exchanged keeps the order. What the prompt holds in that order does not count; null: off.",
    )
    quoted: float | None = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of an answer's runs of four words that stand in the reference and not in the prompt, "
        "from which it is a copy of a part; null: off.",
    )
    made_of: float | None = Field(
        0.85,
        gt=0,
        le=1,
        description="Share of an answer's words that stand in the reference in that order, from which it is a "
        "copy with words left out, where it holds three tenths of the reference's; what the prompt holds does not "
        "count; null: off.",
    )
    min_words: int = Field(
        8, ge=1, description="References with fewer content words that the prompt does not hold are not guarded."
    )


UNGUARDED = CopyConfig(coverage=None, aligned=None, quoted=None, made_of=None)
"""Nothing is called a copy."""


def normalised(text: str) -> str:
    """Return `text` as a reader sees it: one form a character, no invisible ones, no hyphenation."""
    text = unicodedata.normalize("NFKC", text)
    text = "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Mn", "Cc") or char in "\n\t")
    return _HYPHEN_IN_WORD.sub("", text).translate(_LOOKALIKES).casefold()


def content_words(text: str) -> Counter[str]:
    """Count the words that carry content: four letters and more, two syllables and more, numbers.

    A run of Chinese or Japanese has no blanks, and its single characters are in every text; pairs are words or
    parts of words. Of Thai and its like, every four neighbouring letters are. Names in code are cut at
    underscores.
    """
    return _content_of(normalised(text))


def _content_of(plain: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for piece in _PIECE.findall(plain):
        if _IDEOGRAPHS.match(piece):
            found.update(_neighbours(piece, 2))
        elif _LETTERS.match(piece):
            found.update(_neighbours(piece, _NEIGHBOURS))
        elif len(piece) >= (_SHORT_SYLLABLES if _SYLLABLES.match(piece) else _SHORT) or piece.isdigit():
            found[piece] += 1
    return found


def _neighbours(piece: str, size: int) -> list[str]:
    return [piece[at : at + size] for at in range(max(1, len(piece) - size + 1))]


def _words_of(plain: str) -> list[str]:
    """Return the words in order; an ideograph is one, and of Thai and its like every four neighbouring letters."""
    found: list[str] = []
    for piece in _PIECE.findall(plain):
        if _IDEOGRAPHS.match(piece):
            found.extend(piece)
        elif _LETTERS.match(piece):
            found.extend(_neighbours(piece, _NEIGHBOURS))
        else:
            found.append(piece)
    return found


_VERDICTS = VerdictCache(4096)
"""The terms of a sum ask the same of the same texts."""


class CopyGuard:
    """Measures how much of one reference a text holds, and how much of a text is the reference's.

    What the prompt holds does not count.
    """

    def __init__(self, reference: str, prompt: str, rules: CopyConfig) -> None:
        self._reference, self._prompt, self._rules = reference, prompt, rules

    @cached_property
    def _content(self) -> Counter[str]:
        known = content_words(self._prompt)
        return Counter({word: n for word, n in content_words(self._reference).items() if word not in known})

    @cached_property
    def _words(self) -> list[str]:
        return _words_of(normalised(self._reference))

    @cached_property
    def _asked_words(self) -> list[str]:
        return _words_of(normalised(self._prompt))

    @cached_property
    def _asked(self) -> int:
        return longest_common(self._asked_words, self._words)

    @cached_property
    def _own(self) -> list[str]:
        """The words of the reference that the prompt does not hold."""
        return [word for word in self._words if word not in self._known]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self._asked_words)

    @cached_property
    def _runs(self) -> set[tuple[str, ...]]:
        return set(_runs(self._words)) - set(_runs(self._asked_words))

    @property
    def active(self) -> bool:
        """Whether the reference is long enough to tell a copy from an answer."""
        return self._content.total() >= self._rules.min_words

    def coverage(self, text: str) -> float:
        """Return the share of the reference's content words that `text` holds, in any order; 0 without any."""
        return self._coverage(normalised(text))

    def alignment(self, text: str) -> float:
        """Return the share of the reference's words that `text` holds in its order, the prompt's left out."""
        return self._alignment(_words_of(normalised(text)))

    def quotation(self, text: str) -> float:
        """Return the share of the runs of four words in `text` that are the reference's; 0 for a short text."""
        return self._quotation(_words_of(normalised(text)))

    def skeleton(self, text: str) -> float:
        """Return the share of the words in `text` that are the reference's in its order, the prompt's left out.

        0 for a text that holds less than three tenths of the reference: in a long one a few words are in order by
        chance.
        """
        return self._skeleton(_words_of(normalised(text)))

    def copied(self, text: str) -> bool:
        """Say whether `text` holds so much of the reference that its closeness proves nothing."""
        parts = (text, self._reference, self._prompt, self._rules.model_dump_json())
        return _VERDICTS.verdict(parts, lambda: self._copied(text))

    def _copied(self, text: str) -> bool:
        rules = self._rules
        if not self.active:
            return False
        plain = normalised(text)
        if rules.coverage is not None and self._coverage(plain) >= rules.coverage:
            return True
        found = _words_of(plain)
        measures = (
            (rules.aligned, self._alignment),
            (rules.quoted, self._quotation),
            (rules.made_of, self._skeleton),
        )
        return any(limit is not None and measure(found) >= limit for limit, measure in measures)

    def _coverage(self, plain: str) -> float:
        total = self._content.total()
        return (self._content & _content_of(plain)).total() / total if total else 0.0

    def _alignment(self, found: Sequence[str]) -> float:
        rest = len(self._words) - self._asked
        common = longest_common(found, self._words) - self._asked
        return max(0, common) / rest if rest >= _LEAST_WORDS else 0.0

    def _quotation(self, found: Sequence[str]) -> float:
        runs = _runs(found)
        return sum(run in self._runs for run in runs) / len(runs) if len(runs) >= _LEAST_RUNS else 0.0

    def _skeleton(self, found: Sequence[str]) -> float:
        own = [word for word in found if word not in self._known]
        if len(own) < _LEAST_OWN:
            return 0.0
        common = longest_common(own, self._own)
        return common / len(own) if common >= _LEAST_PART * len(self._own) else 0.0


_LEAST_WORDS, _LEAST_RUNS = 16, 8
"""Below these a share is chance: of words beside the prompt's, and of runs in a text."""
_LEAST_OWN, _LEAST_PART = 12, 0.3
"""Below these an answer is in the reference's order by chance: its own words, and the part of the reference."""


def longest_common(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the length of the longest common subsequence of two word lists.

    Bit-parallel (Hyyrö, 2004): one addition of |right| bits per word of `left`.
    """
    places: dict[str, int] = {}
    for at, word in enumerate(right):
        places[word] = places.get(word, 0) | 1 << at
    every = unmatched = (1 << len(right)) - 1
    for word in left:
        hits = unmatched & places.get(word, 0)
        unmatched = ((unmatched + hits) | (unmatched - hits)) & every
    return len(right) - unmatched.bit_count()


def _runs(listed: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(listed[at : at + 4]) for at in range(len(listed) - 3)]
