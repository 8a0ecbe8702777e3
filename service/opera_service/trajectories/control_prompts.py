"""Contentless reflective paragraphs: what they gain is what the word "Wait" gains by itself (defect D15)."""

from __future__ import annotations

import re

ENGLISH = (
    "Wait, let me think about this again.\n\n",
    "Hmm, let me go over this once more before I go on.\n\n",
    "But let me take another look at what I have so far.\n\n",
    "However, I should be careful here and check it again.\n\n",
)
CHINESE = (
    "等等，让我再想一想。\n\n",
    "嗯，在继续之前，我再从头看一遍。\n\n",
    "但是，让我再看看目前的思路。\n\n",
    "不过，这里要小心，我再检查一下。\n\n",
)

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_WORD = re.compile(r"[^\W\d_]+")


def control_paragraphs(prompt: str) -> tuple[str, ...]:
    """Return the controls in the prompt's language: Chinese when it has more Han characters than other words."""
    characters = len(_HAN.findall(prompt))
    words = len(_WORD.findall(_HAN.sub(" ", prompt)))
    return CHINESE if characters > words else ENGLISH
