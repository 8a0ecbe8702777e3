"""Signs that a trajectory is paid for form instead of thought, read off its words alone.

Pure functions of an encoded group. They change no reward: they are reported, whatever the reward and preset.
"""

from __future__ import annotations

import re
from functools import cache

from opera_service.rewards.guards import CopyGuard, GuardConfig, words
from opera_service.rewards.repetition import LOOP, repetition
from opera_service.trajectories.control_prompts import CHINESE as CHINESE_CONTROLS
from opera_service.trajectories.control_prompts import ENGLISH as ENGLISH_CONTROLS
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory
from opera_service.trajectories.encoding_config import ReflectionConfig
from opera_service.trajectories.reflection import CHINESE, ENGLISH, is_reflective

EMPTY_REFLECTION = "empty_reflection"
"""Half of the reflective paragraphs or more, and at least two, have no content."""
REPETITION = "repetition"
"""Somewhere in the response, most of what is written has just been written."""
REFERENCE_COPY = "reference_copy"
"""The thought holds the reference, or most of it, word by word."""

LEAST_CONTENT = 2.0
"""Content, in words, below which a reflective paragraph is empty."""

_RULES = ReflectionConfig()
_BLANK_LINE = re.compile(r"\n\s*\n")
_HMM = re.compile(r"hm+")
# What sentences are built with, beyond the words of the lists and of the control paragraphs.
_FUNCTION_WORDS = """
    a an and as at by carefully comes do does for from if in into it its just last let lets maybe next now of off
    or perhaps so some something that there they think this to too up us we well what when where which with would
    yes you your
    的 了 是 在 有 和 就 都 也 这 那 个 吧 呢 吗 啊 下 上 来 去 一 次 们 会 要 能 还
"""


def indicators(group: EncodedGroup) -> list[tuple[str, ...]]:
    """Return the indicators of each trajectory of `group`, in order."""
    copies = CopyGuard(group, GuardConfig())
    return [_signs(trajectory, copies) for trajectory in group.trajectories]


def _signs(trajectory: EncodedTrajectory, copies: CopyGuard) -> tuple[str, ...]:
    found = {
        EMPTY_REFLECTION: reflects_on_nothing(trajectory.thought),
        REPETITION: repetition(trajectory.scored_text) > LOOP,
        REFERENCE_COPY: copies.first_copy(trajectory) is not None,
    }
    return tuple(sign for sign, is_so in found.items() if is_so)


def reflects_on_nothing(thought: str) -> bool:
    """Say whether reflection is mostly announced: "Wait." and "Let me check this again." with nothing after it."""
    reflective = [one for one in _BLANK_LINE.split(thought) if is_reflective(one, _RULES)]
    empty = sum(content(paragraph) < LEAST_CONTENT for paragraph in reflective)
    return empty >= 2 and 2 * empty >= len(reflective)


def content(paragraph: str) -> float:
    """Return how many words say something, a number being one and a Chinese or Japanese character half a word.

    Words of the reflection lists, of the contentless control paragraphs, and function words say nothing.
    """
    idle = _idle_words()
    left = [word for word in words(paragraph) if word not in idle and not _HMM.fullmatch(word)]
    return sum(0.5 if _is_character(word) else 1.0 for word in left)


def _is_character(word: str) -> bool:
    return len(word) == 1 and word >= "\u3040"


@cache
def _idle_words() -> frozenset[str]:
    texts = (*ENGLISH, *CHINESE, *ENGLISH_CONTROLS, *CHINESE_CONTROLS, _FUNCTION_WORDS)
    return frozenset(word for text in texts for word in words(text))
