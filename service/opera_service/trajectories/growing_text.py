"""Token ids of a text that grows at its end, without tokenising it from its start each time.

Tokenisation is local: what stands far behind does not change the tokens here. So only a window at the end is
tokenised again, and a new window is joined where its tokens and those known agree. Where they do not, and when the
whole, tokenised at the end, is not what was joined, everything is tokenised plainly: the result is the same.
Ids are int arrays [tokens].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from opera_service.scoring.tree import Ids
from opera_service.trajectories.tokenizer import Tokenizer


@dataclass(frozen=True)
class _Mark:
    """The text as it was once: its characters, and its tokens after the first `kept` of the whole."""

    characters: int
    kept: int
    tail: Ids


class GrowingText:
    """A text, and every length at which its tokens are wanted."""

    def __init__(self, text: str, tokenizer: Tokenizer, *, lead: int = 1024) -> None:
        """`lead` is how many characters before the end a window begins; it grows to four times that."""
        self._text, self._tokenizer, self._lead = text, tokenizer, lead
        self._marks: list[_Mark] = []
        self._whole: Ids = tokenizer.encode(text)
        self._head: Ids = self._whole[:0]
        """Tokens before the window, of which `_skip` more are the window's own."""
        self._agreed: Ids = self._whole[:0]
        """How the window begins, or the joint is not where it was."""
        self._begin, self._skip = 0, 0

    def add(self, more: str) -> int:
        """Let the text grow, and mark this length; return its tokens."""
        self._text += more
        window = self._tokenizer.encode(self._text[self._begin :])
        if not np.array_equal(window[: len(self._agreed)], self._agreed):
            self._whole = self._tokenizer.encode(self._text)
            self._head = self._agreed = self._whole[:0]
            self._begin = self._skip = 0
            self._marks.append(_Mark(len(self._text), 0, self._whole))
        else:
            tail = window[self._skip :]
            self._whole = np.concatenate([self._head, tail])
            self._marks.append(_Mark(len(self._text), len(self._head), tail))
        if len(self._text) - self._begin > 4 * self._lead:
            self._move()
        return len(self._whole)

    def contexts(self, start: Ids, check: Callable[[Ids], None]) -> list[Ids]:
        """Return the tokens at every mark after those of `start`, views of one array where they can be.

        `check` sees each of them first.
        """
        if not self._marks:
            return []
        plain = self._tokenizer.encode(self._text)
        same = np.array_equal(plain, self._whole)
        whole = np.concatenate([start, plain])
        found = []
        for mark in self._marks:
            if not same:
                context = np.concatenate([start, self._tokenizer.encode(self._text[: mark.characters])])
            else:
                begin = len(start) + mark.kept
                context = whole[: begin + len(mark.tail)]
                if not np.array_equal(context[begin:], mark.tail):
                    context = np.concatenate([whole[:begin], mark.tail])
            check(context)
            found.append(context)
        return found

    def _move(self) -> None:
        """Begin the window later, if its tokens agree with those known up to the end."""
        begin = len(self._text) - self._lead
        window = self._tokenizer.encode(self._text[begin:])
        common = _common_end(self._whole, window)
        if common < 8:
            return
        self._begin, self._skip = begin, len(window) - common
        self._head = self._whole[: len(self._whole) - common]
        # Half of what agrees must stay as it is when the text grows, or the joint is not where it was.
        self._agreed = window[: self._skip + common // 2]


def _common_end(left: Ids, right: Ids) -> int:
    """Return how many last tokens two arrays have in common."""
    size = min(len(left), len(right))
    differ = np.flatnonzero(left[len(left) - size :] != right[len(right) - size :])
    return size - (int(differ[-1]) + 1 if len(differ) else 0)
