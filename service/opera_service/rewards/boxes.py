"""Final answers in LaTeX boxes: the last balanced one, and what the released regular expression finds.

Text in, text out, in linear time whatever the text; knows nothing of mathematics.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_BOX, _OPEN, _CLOSE = "\\boxed{", "<think>", "</think>"


def last_box(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` with balanced braces, None without one (D20).

    Of nested boxes it is the inner one; `\{` and `\}` are content, not braces.
    """
    opened: list[int | None] = []  # where a box's content starts; None for other braces
    found: tuple[int, int] | None = None
    for token in _TOKEN.finditer(text):
        kind = token.group()
        if kind.endswith("{") and kind != "\\{":
            opened.append(token.end() if len(kind) > 1 else None)
        elif kind == "}" and opened:
            start = opened.pop()
            if start is not None and (found is None or start > found[0]):
                found = (start, token.start())
    return text[found[0] : found[1]].strip() if found else None


def released_answer(text: str) -> str:
    r"""Return what the released code compares: the last `\boxed{(.*?)}` outside think blocks, else all of that."""
    visible = _without_thoughts(text)
    boxes = _released_boxes(visible)
    return (boxes[-1] if boxes else visible).strip()


def _without_thoughts(text: str) -> str:
    r"""Equal to `re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)`."""
    kept: list[str] = []
    at = 0
    while (start := text.find(_OPEN, at)) >= 0 and (end := text.find(_CLOSE, start + len(_OPEN))) >= 0:
        kept.append(text[at:start])
        at = end + len(_CLOSE)
    return "".join([*kept, text[at:]])


def _released_boxes(text: str) -> list[str]:
    r"""Equal to `re.findall(r"\\boxed\{(.*?)\}", text)`: up to the first brace, never over a line end."""
    found: list[str] = []
    for line in text.split("\n"):
        at = 0
        while (start := line.find(_BOX, at)) >= 0 and (end := line.find("}", start + len(_BOX))) >= 0:
            found.append(line[start + len(_BOX) : end])
            at = end + 1
    return found
