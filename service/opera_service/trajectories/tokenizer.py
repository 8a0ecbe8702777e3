"""What encoding needs of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opera_service.scoring.tree import Ids
from opera_service.trajectories.think_tags import ThinkTags


class Tokenizer(Protocol):
    """A reversible byte-exact tokenizer; all methods are safe to call from several threads."""

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        ...

    @property
    def turn_end_id(self) -> int | None:
        """The id with which the chat template ends an assistant's turn; without a template the tokenizer's eos."""
        ...

    @property
    def end_ids(self) -> frozenset[int]:
        """All ids with which the model may end a turn: those of tokenizer, configuration and chat template."""
        ...

    @property
    def closing_ids(self) -> frozenset[int]:
        """What may stand behind a response and is no part of it: `end_ids`, and padding where that is special."""
        ...

    @property
    def eos_id(self) -> int | None:
        """The tokenizer's own end token."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The tokenizer's own start token, whether it puts it before texts or not."""
        ...

    @property
    def pad_id(self) -> int | None:
        """The tokenizer's own padding."""
        ...

    @property
    def start_ids(self) -> tuple[int, ...]:
        """What the tokenizer puts before every text by itself (`add_special_tokens`); `encode` never does."""
        ...

    @property
    def tags(self) -> ThinkTags:
        """What the model writes around a thought, as far as its template shows it."""
        ...

    @property
    def header(self) -> str:
        """How the template begins an assistant's turn; empty without a template."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template, for clients that render messages themselves."""
        ...

    def encode(self, text: str) -> Ids:
        """Tokenise `text` alone: special tokens written in it are recognised, none are added."""
        ...

    def encode_inside(self, text: str) -> Ids:
        """Tokenise `text` to stand behind other tokens: as `encode`, but without the space that some tokenizers
        put before a text, so that the joined pieces read as the joined texts.
        """
        ...

    def decode(self, ids: ArrayLike, *, skip_special: bool = False) -> str:
        """Return the text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        ...

    def to_bytes(self, ids: ArrayLike, *, skip_special: bool = False) -> bytes:
        """Return the text of `ids` as bytes: UTF-8, except where the ids themselves split or break a character.

        Raises `opera_client.errors.NotSupported` when the tokenizer's text cannot be cut between tokens.
        """
        ...

    def byte_ends(self, ids: ArrayLike, *, skip_special: bool = False) -> NDArray[np.int64]:
        """int64[len(ids)]: after how many bytes of `to_bytes` each token ends; skipped tokens add none."""
        ...

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Ids:
        """Apply the model's own chat template, ready for the assistant's turn; a last assistant message is
        continued, not closed.

        Raises `opera_client.errors.InvalidRequest` when there is no template or it refuses.
        """
        ...

    def spoken(self, message: Mapping[str, Any]) -> str:
        """Return one turn of the assistant as the model writes it: thought, tags, answer, tool calls; not its end.

        Raises `opera_client.errors.InvalidRequest` when the template does not say how.
        """
        ...

    def between(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Return what the template writes between two turns of the assistant: the first one's end, `messages`, and
        how the second begins.

        Raises `opera_client.errors.InvalidRequest` when there is no template or it refuses.
        """
        ...
