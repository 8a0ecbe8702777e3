"""Which paragraphs are reflective: they hold a word with which one stops and looks back.

`authors` is the list of the released code, there searched as bare substrings ("butter" counts, defect D14). The
other lists are this project's own: English words end at word borders, Chinese ones have no borders.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from opera_service.trajectories.encoding_config import ReflectionConfig

AUTHORS = ("But", "Wait", "Hmm", "However", "Wait a minute")

ENGLISH = (
    "but", "wait", "no wait", "no, wait", "oh wait", "oh, wait", "okay, wait", "ok, wait", "however",
    "actually", "alternatively", "hold on", "hang on", "on second thought", "on second thoughts",
    "then again", "on the other hand", "oops", "not quite", "that's not right", "that's wrong",
    "that can't be right", "is that right", "am i sure", "i made a mistake", "i was wrong",
    "i should double-check", "i need to double-check", "let me rethink",
    "let me reconsider", "let me check", "let me recheck", "let me double-check", "let me double check",
    "let me verify", "let me re-examine", "let me reexamine", "let me revisit", "let me re-read",
    "let me look again", "let me try again", "let me start over", "let me go back", "let me step back",
    "let's reconsider", "let's check", "let's recheck", "let's double-check",
    "let's double check", "let's verify", "let's re-examine", "let's revisit", "let's go back",
    "let's step back", "let's try again",
)  # fmt: skip

CHINESE = (
    "等等", "等一下", "等一等", "等下", "稍等", "且慢", "慢着", "慢著", "不过", "不過", "但是", "可是",
    "然而", "话说回来", "話說回來", "反过来", "反過來", "换个角度", "換個角度", "再想想", "再想一想",
    "再看看", "再检查", "再檢查", "重新考虑", "重新考慮", "重新检查", "重新檢查", "重新思考", "仔细想想",
    "仔細想想", "回头看", "回頭看", "让我想想", "讓我想想", "让我再", "讓我再", "让我重新", "讓我重新",
    "让我检查", "讓我檢查", "让我验证", "讓我驗證", "我错了", "我錯了", "我搞错", "我弄错", "嗯", "唔",
    "咦", "哦不",
)  # fmt: skip

# Whole words: not in "await", "wait-list" or "wait_for", but in the emphasised "_wait_".
_BEFORE, _AFTER = r"(?<![^\W_])(?<!\w[_-])", r"(?![^\W_]|[_-]\w)"
# Hm, hmm, hmmm …
_ENGLISH_PATTERN = rf"{_BEFORE}hm+{_AFTER}"
# 不对 is "wrong" but 不对称 is "asymmetric"; 但 is "but", 但愿 and 但凡 are not, nor is 不但 "not only".
_CHINESE_PATTERN = r"不[對对](?![称稱等应應劲勁])|(?<![不非])但(?![愿願凡])"

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_SENTENCE_END = re.compile(
    r"\n|(?<=[.!?])[\"')\]*_”’»]*+\s+|(?<=。)|(?<=[!?;])(?![!?;])(?=[\s\"')\]*_”’»」』]*+[\u3400-\u9fff])"
)
_DECORATION = " \t\r\f\v\u00a0\u3000\"'`*_~#>|+()[]{}<«»“”‘’„「」『』《》【】-–—•·.…,，:"
_AFTER_MARKER = " ,.:;!?…–—-，。！？：；、"
_LIST_MARKER = re.compile(r"(?:\d{1,3}|[a-z])[.):、]\s*")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "´": "'"})


def is_reflective(text: str, rules: ReflectionConfig) -> bool:
    """Whether `text` holds a reflection word, by the rules' lists, matching and position."""
    if rules.match == "substring" and rules.where == "anywhere":  # the released code: nothing is normalised
        lowered = text.lower()
        return any(word in lowered for word in _lowered_words(rules))
    pattern = _pattern(rules)
    text = _normalised(text)
    if rules.where == "anywhere":
        return pattern.search(text) is not None
    return any(pattern.match(_undecorated(sentence)) for sentence in _SENTENCE_END.split(text))


def without_markers(text: str, rules: ReflectionConfig) -> str:
    """Return `text` with the reflection words at the starts of its sentences left out: "Wait, it is" -> "It is".

    What a paragraph earns beyond this is not earned by the word. Words elsewhere in a sentence stay.
    """
    pattern = _pattern(rules)
    kept: list[str] = []
    at = 0
    for border in [*_SENTENCE_END.finditer(text), None]:
        stop = len(text) if border is None else border.start()
        kept.append(_unmarked_sentence(text[at:stop], pattern))
        if border is not None:
            kept.append(border.group())
            at = border.end()
    return "".join(kept)


def _unmarked_sentence(sentence: str, pattern: re.Pattern[str]) -> str:
    rest = sentence.lstrip(_DECORATION)
    marker = pattern.match(rest.translate(_APOSTROPHES).lower())
    if marker is None:
        return sentence
    for _ in range(8):  # "Hmm. But wait, …" is one marker after another; nobody means more of them
        if marker is None:
            break
        rest = rest[marker.end() :].lstrip(_AFTER_MARKER)
        marker = pattern.match(rest.translate(_APOSTROPHES).lower())
    return rest[:1].upper() + rest[1:]


def _normalised(text: str) -> str:
    """Lower case, compatibility forms unified, every apostrophe straight."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    return text.lower()


def _undecorated(sentence: str) -> str:
    """Drop quotes, markdown and a list marker from the front."""
    sentence = sentence.lstrip(_DECORATION)
    marker = _LIST_MARKER.match(sentence)
    return sentence[marker.end() :].lstrip(_DECORATION) if marker else sentence


def _listed_words(rules: ReflectionConfig) -> tuple[str, ...]:
    lists = {"authors": AUTHORS, "en": ENGLISH, "zh": CHINESE}
    return tuple(word for language in rules.languages for word in lists[language]) + rules.words


@lru_cache(maxsize=64)
def _lowered_words(rules: ReflectionConfig) -> tuple[str, ...]:
    return tuple(word.lower() for word in _listed_words(rules))


@lru_cache(maxsize=64)
def _pattern(rules: ReflectionConfig) -> re.Pattern[str]:
    words = [_normalised(word) for word in _listed_words(rules)]
    whole = [word for word in words if rules.match == "word" and _has_borders(word)]
    others = [word for word in words if not (rules.match == "word" and _has_borders(word))]
    bare = [_any_of(others)] if others else []
    if whole:
        bare.append(rf"{_BEFORE}{_any_of(whole)}{_AFTER}")
    if "en" in rules.languages:
        bare.append(_ENGLISH_PATTERN)
    if "zh" in rules.languages:
        bare.append(_CHINESE_PATTERN)
    return re.compile("|".join(bare) or r"(?!)")


def _any_of(words: Iterable[str]) -> str:
    """Return one pattern for all words: a tree of their letters, so that a text is read once for however many."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in " ".join(word.split()):
            node = node.setdefault(letter, {})
        node[""] = {}
    return _branches(tree)


def _branches(node: dict[str, Any]) -> str:
    branches = [
        (r"\s+" if letter == " " else re.escape(letter)) + _branches(below)
        for letter, below in node.items()
        if letter
    ]
    ends = "" in node
    if len(branches) == 1 and not ends:
        return branches[0]
    return f"(?:{'|'.join(branches)}){'?' * ends}" if branches else ""


def _has_borders(word: str) -> bool:
    """Whether a match must be a whole word: neither Chinese nor Japanese, and no symbol at its ends."""
    return not _CJK.search(word) and word[0].isalnum() and word[-1].isalnum()
