"""A completion that comes as chat messages becomes the text that the policy wrote.

Knows the wire's messages, and no trainer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from opera_client.wire import THOUGHT_KEYS, Message

Conversation = Sequence[Mapping[str, Any]]
Tags = tuple[str, str]


USUAL: Tags = ("<think>", "</think>")


def tags_of(config: Mapping[str, Any]) -> Tags | None:
    """Return the tags around a thought that a reward's configuration sets, if it does."""
    think = config.get("think") or {}
    return (think["open"], think["close"]) if think.get("open") and think.get("close") else None


def has_thought(completion: str | Conversation) -> TypeGuard[Conversation]:
    """Whether a message of the assistant has its thought in a field of its own."""
    if isinstance(completion, str):
        return False
    return any(one.get("role") == "assistant" and any(one.get(key) for key in THOUGHT_KEYS) for one in completion)


def text_of(completion: str | Conversation, tags: Tags) -> str:
    """Return the assistant's part of a completion; a thought in a field of its own stands in `tags` again.

    Raises ValueError where content is no text.
    """
    if isinstance(completion, str):
        return completion
    return "".join(_written(message, tags) for message in completion if message["role"] == "assistant")


def _written(message: Mapping[str, Any], tags: Tags) -> str:
    thought = next((message[key] for key in THOUGHT_KEYS if message.get(key)), None)
    has_content = message.get("content") is not None
    content = Message.model_validate({**message, "content": message["content"] if has_content else ""}).content
    if thought is None:
        return content
    opening, closing = tags
    return f"{opening}\n{str(thought).strip()}\n{closing}\n\n{content}"
