"""Reads one field of a request, given as text, messages or token ids, into checked ids.

Every error names the field and the remedy. Knows no think blocks, no rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from opera_client.errors import ContextTooLong, InvalidRequest, TokenOutOfVocabulary
from opera_client.wire import HALF_CHARACTER, Prompt
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.tokenizer import Tokenizer

CHARACTERS = 8
"""Of a token, more than most have: a text of so many per token of the longest context is tokenised at once."""
SLACK = 64
"""Tokens by which the beginning of a text may differ from the same characters inside of it."""


def given_field(field: str, ids: Sequence[int] | None) -> str:
    """Return the path of the field that was used: ids come before text where both are given."""
    return field if ids is None else f"{field}_token_ids"


def readable(text: str, field: str) -> str:
    """Return `text`; raises `InvalidRequest` when half of a surrogate pair is in it, which no tokenizer reads."""
    at = text.find(HALF_CHARACTER)
    if at >= 0:
        raise InvalidRequest(
            f"half of a character stands at position {at}: the text was cut inside a surrogate pair; leave it out",
            field=field,
        )
    return text


@dataclass(frozen=True)
class FieldTokenizer:
    """A tokenizer and the limits of the model behind it."""

    tokenizer: Tokenizer
    vocab_size: int
    """Of the model, which may have more or fewer rows than the tokenizer has tokens."""
    max_context: int
    """Longest context + target, in tokens."""
    add_special_tokens: bool = True
    """Whether a text that starts a context gets what the tokenizer puts before texts: its start token, mostly."""

    def tokens(self, text: str | None, ids: Sequence[int] | None, field: str) -> Ids:
        """Return `ids` where given, else the ids of `text` behind a context, else none."""
        if ids is not None:
            return self.checked(as_ids(ids), given_field(field, ids))
        return self.text(text or "", field)

    def text(self, text: str, field: str) -> Ids:
        """Tokenise `text` alone, as it stands behind a context: no special tokens, no space put before it."""
        return self.checked(self.tokenizer.encode_inside(self._fit(text, field)), field)

    def start(self, text: str | None, ids: Sequence[int] | None, field: str) -> Ids:
        """Return `ids` where given, else the ids of `text` at the start of a context, else none.

        Follows the tokenizer's own rule (`add_special_tokens`); a start that the text spells out is not doubled.
        """
        if ids is not None or not text:
            return self.tokens(None, ids, field)
        found = self.checked(self.tokenizer.encode(self._fit(text, field)), field)
        start = as_ids(self.tokenizer.start_ids if self.add_special_tokens else ())
        return found if np.array_equal(found[: len(start)], start) else np.concatenate([start, found])

    def prompt(self, prompt: Prompt | None, ids: Sequence[int] | None, field: str) -> Ids:
        """Return the ids of a prompt; messages go through the model's chat template."""
        if ids is not None or not isinstance(prompt, list):
            return self.start(None if isinstance(prompt, list) else prompt, ids, field)
        messages = [message.model_dump() for message in prompt]
        for message in messages:
            self._fit(message["content"], field)
        try:
            tokens = self.tokenizer.chat(messages)
        except InvalidRequest as error:
            raise InvalidRequest(error.message, field=field) from error
        return self.checked(tokens, field)

    def _fit(self, text: str, field: str) -> str:
        """Return `text`; raises `ContextTooLong` when its beginning is too long already, so that no more is read.

        Raises `InvalidRequest` as `readable` does.
        """
        readable(text, field)
        length = CHARACTERS * (self.max_context + SLACK)
        while length < len(text):
            tokens = len(self.tokenizer.encode(text[:length]))
            if tokens > self.max_context + SLACK:
                raise ContextTooLong(
                    f"the first {length} of {len(text)} characters are {tokens} tokens already, more than the "
                    f"model's {self.max_context}; shorten the text, or serve the model with a longer context",
                    field=field,
                )
            length *= 2
        return text

    def checked(self, ids: Ids, field: str) -> Ids:
        """Return `ids`; raises `TokenOutOfVocabulary` when the model has no row for one of them."""
        wrong = np.flatnonzero((ids < 0) | (ids >= self.vocab_size))
        if not len(wrong):
            return ids
        at = int(wrong[0])
        raise TokenOutOfVocabulary(
            f"token id {int(ids[at])} at position {at} is not in the model's vocabulary of {self.vocab_size}; "
            "use the ids of the served model's own tokenizer, or send text",
            field=field,
        )

    def check_length(self, field: str, **parts: int) -> None:
        """Raise `ContextTooLong` when the named token counts together exceed the model's length."""
        total = sum(parts.values())
        if total > self.max_context:
            named = " + ".join(f"{name.replace('_', ' ')} {count}" for name, count in parts.items() if count)
            raise ContextTooLong(
                f"{named} = {total} tokens exceed the model's {self.max_context}; shorten them, or serve the "
                "model with a longer context",
                field=field,
            )
