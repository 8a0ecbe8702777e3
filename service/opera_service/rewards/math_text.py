r"""Boxed answers as text, before any mathematics: no single answer is wrong, other spellings are rewritten.

A verifier that is asked about `17 \cup 18` or `3=18` finds an 18 in them and says yes.
"""

from __future__ import annotations

import re
import unicodedata

_PERCENT = re.compile(r"\\?%|\\text\s*\{\s*percent\s*\}", re.IGNORECASE)
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree|°)")
_EXPONENT = re.compile(r"(?<![\w\\])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?!\w)")
_DEFINITION = re.compile(r"^\s*\$?\s*(?:\\?[a-zA-Z]|[a-zA-Z]\([a-zA-Z]\))\s*=(?!=)")
_RELATION = re.compile(
    r"[=<>≤≥≠≈]|\\(?:leq?|geq?|neq?|approx|sim|equiv|in|notin|lt|gt|to|rightarrow|Rightarrow|implies)(?![a-zA-Z])"
)
_SEVERAL = re.compile(
    r"\\(?:cup|cap|lor|land|vee|wedge|pm|mp)(?![a-zA-Z])|[;∪∩±]|(?<!\d),|,(?!\d{3}(?!\d))|(?<![a-zA-Z])(?:or|and|oder|或|和)"
    r"(?![a-zA-Z])"
)
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_UNIT = re.compile(
    r"\\(?:text|mathrm)\s*\{\s*([^{}]*?)\s*\}\s*(?:\^\s*\{?\d\}?)?\s*\$?\.?\s*$|(?<=\d)\s*([a-zA-Zµμ]+)\s*$"
)
_DENIED_AFTER = re.compile(
    r"^[\s$.)]*(?:is|are|was|would be|seems|looks)?\s*(?:wrong|incorrect|false|not\b|n't\b|impossible)",
    re.IGNORECASE,
)
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n't|\bnever|\bneither|≠|\\neq?|不是|并非)\s*(?:equal to|be)?\s*[$(\s]*$", re.IGNORECASE
)


def rewritten(text: str) -> str:
    r"""Return `text` as mathematics writes it: `１８` is 18, `1.8e1` is 1.8·10^1, `90^\circ` is a part of π."""
    text = unicodedata.normalize("NFKC", _DEGREES.sub(r"(\1 \\cdot \\pi / 180)", text))
    return _EXPONENT.sub(r"\1 \\cdot 10^{\2}", text)


def is_single(answer: str, gold: str) -> bool:
    """Say whether `answer` is one expression where `gold` is: no relation, no list, no prose that gold has not."""
    answer, gold = _DEFINITION.sub("", answer), _DEFINITION.sub("", gold)
    for pattern in (_RELATION, _SEVERAL):
        if pattern.search(answer) and not pattern.search(gold):
            return False
    return len(_prose(answer)) <= max(1, len(_prose(gold)))


def is_prose(reference: str) -> bool:
    """Say whether a reference without a box is a text that holds an answer somewhere, not an answer."""
    return "$" not in reference and len(_prose(reference)) > 3


def same_percent(left: str, right: str) -> bool:
    """Say whether both or none are in percent."""
    return bool(_PERCENT.search(left)) == bool(_PERCENT.search(right))


def same_unit(left: str, right: str) -> bool:
    """Say whether the units agree; an answer or a reference without a unit agrees with any."""
    found = [
        next((group for group in match.groups() if group), "")
        for match in map(_UNIT.search, (left, right))
        if match
    ]
    return len(found) < 2 or found[0].casefold() == found[1].casefold()


def without_percent(text: str) -> str:
    """Return `text` without its percent signs, to be compared with another one in percent."""
    return _PERCENT.sub("", text)


def is_denied(text: str, box: str) -> bool:
    r"""Say whether the last `\boxed{box}` in `text` is called wrong: "it is not …", "… is wrong"."""
    written = f"{{{box}}}"
    at = text.replace(" ", "").rfind(written.replace(" ", ""))
    if at < 0:
        return False
    end = text.rfind(box) + len(box) + 1
    start = text.rfind("\\boxed", 0, end)
    return bool(_DENIED_AFTER.match(text[end : end + 40])) or bool(
        _DENIED_BEFORE.search(text[max(0, start - 40) : start])
    )


def _prose(text: str) -> list[str]:
    """Return the words that are neither commands nor the names of functions."""
    return [word for word in _WORD.findall(_COMMAND.sub(" ", _TEXT.sub(r" \1 ", text))) if word not in _FUNCTIONS]


_FUNCTIONS = {
    "sin",
    "cos",
    "tan",
    "log",
    "ln",
    "exp",
    "sqrt",
    "pi",
    "arcsin",
    "arccos",
    "arctan",
    "max",
    "min",
    "gcd",
}
