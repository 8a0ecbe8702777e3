"""The text of token ids as OpenAI's log-prob lists want it: one string a token, its offset, unique names.

It knows a tokenizer; no scores.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from opera_service.scoring.tree import Ids
from opera_service.trajectories.tokenizer import Tokenizer


class TokenText:
    """A sequence of ids and how it reads."""

    def __init__(self, tokenizer: Tokenizer, ids: Ids) -> None:
        self._tokenizer = tokenizer
        self._ids = ids
        data = tokenizer.to_bytes(ids)
        ends = tokenizer.byte_ends(ids).tolist()
        starts = [0, *ends[:-1]] if ends else []
        self.text = data.decode(errors="replace")
        self.tokens = [_readable(data[start:end]) for start, end in zip(starts, ends, strict=True)]
        opens_character = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80
        self.offsets = np.concatenate([[0], np.cumsum(opens_character)])[starts].tolist() if starts else []
        """Characters of the text that start before each token."""

    def named(self, position: int, logprobs: Mapping[int, float]) -> dict[str, float]:
        """Return the log-probs of alternatives at `position` under readable names, one an id.

        Two ids with the same text cannot share a key; the later one is called `token_id:N`.
        """
        named: dict[str, float] = {self.tokens[position]: logprobs[int(self._ids[position])]}
        for token, value in logprobs.items():
            if token != self._ids[position]:
                name = _readable(self._tokenizer.to_bytes([token]))
                named[name if name not in named else f"token_id:{token}"] = value
        return named


def _readable(data: bytes) -> str:
    """Return the text of one token; `bytes:\\xe2\\x80` when it is only a part of a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
