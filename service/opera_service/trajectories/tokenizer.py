"""What encoding needs of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opera_service.scoring.tree import Ids


class Tokenizer(Protocol):
    """A reversible byte-exact tokenizer; all methods are safe to call from several threads."""

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        ...

    @property
    def eos_id(self) -> int | None:
        """The id that ends a turn, if the model has one."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The id that starts every text of this model, if its tokenizer puts one there; `encode` never does."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template, for clients that render messages themselves."""
        ...

    def encode(self, text: str) -> Ids:
        """Tokenise `text` alone: special tokens written in it are recognised, none are added."""
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
        """Apply the model's own chat template, ready for the assistant's turn.

        Raises `opera_client.errors.InvalidRequest` when there is no template or it refuses.
        """
        ...
