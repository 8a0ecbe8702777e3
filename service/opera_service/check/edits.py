"""Edits that hide a copied text from a naive comparison, or break its meaning. Pure and deterministic.

Words are runs of letters and digits; a Chinese or Japanese character is a word of its own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|\s+|[^\w\s]")
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*\s*")
_LATIN_TO_CYRILLIC = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")
Edit = Callable[[str], str]
ZERO_WIDTH = "\u200b"


def pieces(text: str) -> list[str]:
    """Return words, blanks and signs, in order; joined they are `text`."""
    return _PIECE.findall(text)


def is_word(piece: str) -> bool:
    """Say whether a piece is a word."""
    return _WORD.fullmatch(piece) is not None


def word_list(text: str) -> list[str]:
    """Return the words of `text`, as written."""
    return _WORD.findall(text)


def joined(words: list[str]) -> str:
    """Return `words` as running text: blanks between words, none between Chinese characters."""
    text = ""
    for word in words:
        glued = not text or (re.match(rf"[{_CJK}]", word) and re.match(rf"[{_CJK}]", text[-1]))
        text += word if glued else f" {word}"
    return text


def with_fillers(text: str, every: int = 4) -> str:
    """Return `text` with an empty word after every few words."""
    fillers = ("well", "basically", "indeed", "so")
    out: list[str] = []
    count = 0
    for piece in pieces(text):
        out.append(piece)
        if is_word(piece):
            count += 1
            if count % every == 0:
                out.append(f", {fillers[count // every % len(fillers)]},")
    return "".join(out)


def hyphenated(text: str) -> str:
    """Return `text` with a hyphen inside every longer word."""
    return "".join(
        f"{piece[: len(piece) // 2]}-{piece[len(piece) // 2 :]}" if is_word(piece) and len(piece) > 3 else piece
        for piece in pieces(text)
    )


def zero_width(text: str) -> str:
    """Return `text` with an invisible character after every second character."""
    return "".join(char + (ZERO_WIDTH if at % 2 else "") for at, char in enumerate(text))


def homoglyphs(text: str) -> str:
    """Return `text` with Latin letters that have a Cyrillic twin replaced by it."""
    return text.translate(_LATIN_TO_CYRILLIC)


def changed(text: str, every: int, *, word: str = "thing") -> str:
    """Return `text` with every `every`-th word replaced."""
    count = 0
    out: list[str] = []
    for piece in pieces(text):
        if is_word(piece):
            count += 1
            out.append(word if count % every == 0 else piece)
        else:
            out.append(piece)
    return "".join(out)


def swapped_runs(text: str, size: int = 3) -> str:
    """Return the words of `text` with neighbouring runs of `size` words exchanged."""
    words = word_list(text)
    runs = [words[at : at + size] for at in range(0, len(words), size)]
    for at in range(0, len(runs) - 1, 2):
        runs[at], runs[at + 1] = runs[at + 1], runs[at]
    return joined([word for run in runs for word in run])


def reordered(text: str) -> str:
    """Return the sentences of `text` in reverse order."""
    return " ".join(sentence.strip() for sentence in reversed(_SENTENCE.findall(text))) or text


def half(text: str) -> str:
    """Return the first half of the words of `text`."""
    found = pieces(text)
    return "".join(found[: (len(found) + 1) // 2]).strip()


def shuffled(text: str, seed: int = 0) -> str:
    """Return the words of `text` in random order."""
    words = word_list(text)
    random.Random(seed).shuffle(words)
    return joined(words)


def keywords(text: str, known: str = "") -> str:
    """Return the longer words of `text` that are not in `known`, in order, as a list."""
    seen = {word.casefold() for word in word_list(known)}
    out: list[str] = []
    for word in word_list(text):
        if (len(word) > 3 or re.match(rf"[{_CJK}]", word)) and word.casefold() not in seen:
            seen.add(word.casefold())
            out.append(word)
    return ", ".join(out)


def falsified(text: str, other: str) -> str:
    """Return `text` with every third longer word exchanged for one of `other`: its shape, another content."""
    donors = [word for word in word_list(other) if len(word) > 3 or re.match(rf"[{_CJK}]", word)] or ["thing"]
    out: list[str] = []
    count = 0
    for piece in pieces(text):
        if is_word(piece) and (len(piece) > 3 or re.match(rf"[{_CJK}]", piece)):
            count += 1
            out.append(donors[count // 3 % len(donors)] if count % 3 == 0 else piece)
        else:
            out.append(piece)
    return "".join(out)
