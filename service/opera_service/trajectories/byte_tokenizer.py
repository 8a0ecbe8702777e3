"""A tokenizer that needs no files: UTF-8 bytes plus three marks. For the dummy engine, tests and examples.

Vocabulary (259 ids): 0-255 the bytes, 256 `<think>`, 257 `</think>`, 258 `<|end|>` (ends a turn; special).
Its chat template writes every message as `role: content<|end|>` and a newline, then `assistant: `.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.chat_format import ChatFormat
from opera_service.trajectories.messages import between, rendered, spoken
from opera_service.trajectories.think_tags import DEFAULT
from opera_service.trajectories.token_bytes import Decoder, TokenBytes

MARKS = ("<think>", "</think>", "<|end|>")
END_ID = 258
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}<|end|>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class ByteTokenizer(Decoder):
    """One token a byte, one token a mark."""

    vocab_size = 256 + len(MARKS)
    turn_end_id: int | None = END_ID
    end_ids = closing_ids = frozenset({END_ID})
    eos_id: int | None = END_ID
    bos_id: int | None = None
    pad_id: int | None = None
    start_ids: tuple[int, ...] = ()
    tags = DEFAULT
    header = "assistant: "
    chat_template: str | None = TEMPLATE

    def __init__(self) -> None:
        values = [bytes([value]) for value in range(256)] + [mark.encode() for mark in MARKS]
        self._bytes = TokenBytes(values, special=[END_ID])
        self._marks = re.compile("(" + "|".join(map(re.escape, MARKS)) + ")")

    def encode(self, text: str) -> Ids:
        """Return the bytes of `text`, its marks as single ids."""
        parts = self._marks.split(text)
        ids = [
            [256 + MARKS.index(part)] if part in MARKS else np.frombuffer(part.encode(), dtype=np.uint8)
            for part in parts
        ]
        return as_ids(np.concatenate(ids))

    def encode_inside(self, text: str) -> Ids:
        """Return the same: where a text stands changes nothing."""
        return self.encode(text)

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Ids:
        """Apply the template; every message needs `role` and `content`."""
        return self.encode(rendered(messages, _render, _FORM))

    def spoken(self, message: Mapping[str, Any]) -> str:
        """Return one turn of the assistant as it is written, without its end; there are no tool calls."""
        return spoken(message, _render, _FORM)

    def between(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Return what the template writes between two turns of the assistant."""
        return between(messages, _render, _FORM)


def _render(messages: Sequence[Mapping[str, Any]], opened: bool) -> str:
    turns = [f"{message['role']}: {message['content']}<|end|>\n" for message in messages]
    return "".join(turns) + ("assistant: " if opened else "")


_FORM = ChatFormat(header=ByteTokenizer.header)
