"""The tags around a thought, and what a template writes to open and to close one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ThinkTags:
    """How one model's thoughts begin and end."""

    open: str
    close: str
    opening: str
    """The opening tag with the white space that follows it."""
    bridge: str
    """The closing tag with the white space that follows it."""
    source: Literal["template", "config", "default"] = "default"

    @classmethod
    def of(cls, open_tag: str, close_tag: str, source: Literal["template", "config", "default"]) -> ThinkTags:
        """Return tags that stand on lines of their own, as most models write them."""
        return cls(open_tag, close_tag, f"{open_tag}\n", f"{close_tag}\n\n", source)


DEFAULT = ThinkTags.of("<think>", "</think>", "default")
KNOWN = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<reasoning>", "</reasoning>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
)
"""Pairs that are looked for where a template shows no thought of its own."""
