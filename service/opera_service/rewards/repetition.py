"""Loops in a text: what has just been written, written again."""

from __future__ import annotations

import re

LOOP = 0.5
"""Share of repeated 4-grams above which a window of text is a loop."""
WINDOW = 128
"""4-grams of a window; a longer text is looked at in windows that overlap by half."""
LEAST_WINDOW = 24
"""4-grams below which nothing is said about repetition."""
_PIECE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_]+|[^\w\s]")


def repetition(text: str) -> float:
    """Return the largest share of 4-grams of words and symbols that repeat an earlier one, over windows of `text`.

    0 for a text without repetition, or too short to tell; near 1 for a loop.
    """
    pieces = _PIECE.findall(text.casefold())
    grams = list(zip(pieces, pieces[1:], pieces[2:], pieces[3:], strict=False))
    if len(grams) < LEAST_WINDOW:
        return 0.0
    last = max(0, len(grams) - WINDOW)
    windows = (grams[start : start + WINDOW] for start in (*range(0, last, WINDOW // 2), last))
    return max(1 - len(set(window)) / len(window) for window in windows)
