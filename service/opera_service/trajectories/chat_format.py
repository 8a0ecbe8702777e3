"""What a chat template does, found by rendering it: how a turn begins and ends, and how a thought does.

Knows templates as functions from messages to text; no tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opera_client.wire import THOUGHT_KEYS
from opera_service.trajectories.think_tags import DEFAULT, KNOWN, ThinkTags

Render = Callable[[Sequence[Mapping[str, Any]], bool], str]
"""Messages and whether the assistant's turn is opened -> text; may raise anything."""

_QUESTION, _THOUGHT, _ANSWER = "Which quince?", "Zebras muse.", "Quokkas agree."
_ASKED = {"role": "user", "content": _QUESTION}
_ANSWERED = {"role": "assistant", "content": _ANSWER}
_LAST_TAG = re.compile(r"(<[^<>\s]{1,40}>|\[[A-Z_/]{1,40}\])\s*$")
_TAG = re.compile(r"[<\[].*[>\]]", re.DOTALL)


@dataclass(frozen=True)
class ChatFormat:
    """The conventions of one template; the empty strings and defaults without a template."""

    header: str = ""
    """How the assistant's turn begins, before any thought."""
    endings: tuple[str, ...] = ()
    """What follows an answer: at the end of a conversation, then before the user's next turn."""
    tags: ThinkTags = DEFAULT
    thought_key: str | None = None
    """The key under which the template shows the thought of a message; None when it shows none."""

    @classmethod
    def of(cls, render: Render, template: str | None) -> ChatFormat:
        """Find the conventions of `render`, whose Jinja source is `template`."""
        if template is None:
            return cls()
        bare, opened = _rendered(render, [_ASKED], False), _rendered(render, [_ASKED], True)
        begun = opened[len(bare) :] if bare is not None and opened and opened.startswith(bare) else ""
        key, tags, header = _shown_thought(render, bare or "", begun)
        tags = tags or _known_tags(begun, template)
        return cls(
            header=header or _before_tags(begun, tags),
            endings=tuple(
                text.rpartition(_ANSWER)[2].partition(_QUESTION)[0]
                for text in (
                    _rendered(render, [_ASKED, _ANSWERED], False),
                    _rendered(render, [_ASKED, _ANSWERED, _ASKED], False),
                )
                if text and _ANSWER in text
            ),
            tags=tags,
            thought_key=key,
        )


def _rendered(render: Render, messages: Sequence[Mapping[str, Any]], opened: bool) -> str | None:
    try:
        return render(messages, opened)
    except Exception:  # noqa: BLE001  a template is a program; what it refuses tells nothing
        return None


def _shown_thought(render: Render, bare: str, begun: str) -> tuple[str | None, ThinkTags | None, str]:
    """Return key, tags and the turn's header when the template shows the thought of the last message."""
    for key in THOUGHT_KEYS:
        full = _rendered(render, [_ASKED, {**_ANSWERED, key: _THOUGHT}], False) or ""
        at = full.find(_THOUGHT)
        answer = full.find(_ANSWER, at)
        if at < 0 or answer < 0:
            continue
        before, behind = full[:at].removeprefix(bare), full[at + len(_THOUGHT) : answer]
        opening = before.removeprefix(begun)
        if not opening.strip() or opening == before:  # the generation prompt opens the thought, too
            last = _LAST_TAG.search(before)
            opening = before[last.start() :] if last else ""
        header = before.removesuffix(opening)
        bridge = behind.lstrip()
        if _TAG.fullmatch(opening.strip()) and _TAG.fullmatch(bridge.strip()):
            return key, ThinkTags(opening.strip(), bridge.strip(), opening.lstrip(), bridge, "template"), header
        return key, None, ""
    return None, None, ""


def _known_tags(begun: str, template: str) -> ThinkTags:
    """Return the pair that the generation prompt opens, else the first that the template's source names."""
    for opening, closing in KNOWN:
        if begun.rstrip().endswith((opening, closing)):
            return ThinkTags.of(opening, closing, "template")
    for opening, closing in KNOWN:
        if opening in template and closing in template:
            return ThinkTags.of(opening, closing, "template")
    return DEFAULT


def _before_tags(begun: str, tags: ThinkTags) -> str:
    return begun.partition(tags.open)[0]
