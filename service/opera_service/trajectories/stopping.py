"""Where a text being written stops: before or behind the first stop text, as whole words, between tokens.

The stop that is complete first counts, of those complete at once the longest, so that it never depends on how much
was written behind it. Knows tokenizers; no engine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.tokenizer import Tokenizer

# Scripts written without spaces have no word borders.
_LETTER = r"[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_WORD = re.compile(_LETTER)
LEAD_TOKENS = 8
"""Tokens before the sampled ones that are looked at: enough for the character before them."""
_MARGIN = 64


@dataclass(frozen=True)
class Stop:
    """A stop text in some ids."""

    text: str
    kept: int
    """Ids that end before it begins; of one that is to be kept, those that write it to its end."""


class StopTexts:
    """The stop texts of one continuation of `context`: before `texts`, behind `behind`. Thread-safe."""

    def __init__(
        self, texts: Sequence[str], context: Ids, tokenizer: Tokenizer, *, behind: Sequence[str] = ()
    ) -> None:
        texts, self._kept = [*texts, *behind], frozenset(behind)
        self._patterns = [(text, _whole(text)) for text in dict.fromkeys(texts)]
        self._lead = context[-LEAD_TOKENS:]
        self._tokenizer = tokenizer
        # A token may be one byte; a window that holds every stop text and what is around it.
        self._window = max((len(text.encode()) for text in texts), default=0) + _MARGIN

    def find(self, ids: ArrayLike, *, ended: bool) -> Stop | None:
        """Return the stop in `ids`, the continuation from its start; None when there is none yet.

        A stop text at the very end counts when it cannot become part of a longer word: it does not end in a
        letter, or the text `ended` there.
        """
        lead, written = self._bytes(ids)
        found = self._first(lead, written, ended=ended)
        if found is None:
            return None
        text, start, end = found
        ends = self._tokenizer.byte_ends(np.concatenate([self._lead, as_ids(ids)]))
        ends = ends[len(self._lead) :] - len(lead)
        if text in self._kept:
            return Stop(text, int(np.searchsorted(ends, end, side="left")) + 1)
        return Stop(text, int(np.searchsorted(ends, start, side="right")))

    def seen(self, ids: Sequence[int]) -> bool:
        """Whether the end of `ids` holds a stop already; cheap, and never true where `find` finds none."""
        if not self._patterns:
            return False
        if len(ids) <= 2 * self._window:
            return self._first(*self._bytes(ids), ended=False) is not None
        written = self._tokenizer.to_bytes(ids[-2 * self._window :])
        # Not at the window's edge, where a character may be cut.
        return self._first(written[:8], written[8:], ended=False) is not None

    def _bytes(self, ids: ArrayLike) -> tuple[bytes, bytes]:
        return bytes_behind(self._lead, ids, self._tokenizer)

    def _first(self, lead: bytes, written: bytes, *, ended: bool) -> tuple[str, int, int] | None:
        """Return the stop text that is complete first in `written`, and the bytes where it begins and ends."""
        # Broken bytes become one lone surrogate each, so that positions stay exact.
        whole = _text(lead + written)
        if not ended:
            whole = whole.rstrip("".join(map(chr, range(0xDC80, 0xDD00))))  # perhaps a letter in the making
        begin = max(0, len(_text(lead)) - 4)  # a character that both share is up to four broken ones of `lead`
        while begin < len(whole) and len(_utf8(whole[:begin])) < len(lead):
            begin += 1
        best: tuple[int, int, str] | None = None
        for text, pattern in self._patterns:
            match = pattern.search(whole, begin)
            if match is None:
                continue
            if not ended and match.end() == len(whole) and _WORD.match(text[-1]):
                continue  # the next letter decides
            if best is None or (match.end(), match.start()) < best[:2]:
                best = match.end(), match.start(), text
        if best is None:
            return None
        end, start, text = best
        return text, len(_utf8(whole[:start])) - len(lead), len(_utf8(whole[:end])) - len(lead)


def bytes_behind(context: Ids, ids: ArrayLike, tokenizer: Tokenizer) -> tuple[bytes, bytes]:
    """Return the bytes of the end of `context`, and of `ids` as they read behind it."""
    context = context[-LEAD_TOKENS:]
    lead = tokenizer.to_bytes(context)
    return lead, tokenizer.to_bytes(np.concatenate([context, as_ids(ids)]))[len(lead) :]


def _whole(text: str) -> re.Pattern[str]:
    """Return a pattern that finds `text`, but not inside a longer word."""
    before = rf"(?<!{_LETTER})" if _WORD.match(text[0]) else ""
    after = rf"(?!{_LETTER})" if _WORD.match(text[-1]) else ""
    return re.compile(before + re.escape(text) + after)


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
