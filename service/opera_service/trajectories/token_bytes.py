"""The bytes of every token: what text <-> token positions are computed from.

Bytes, not characters, because one character may be split over several tokens.
Knows nothing of how text becomes tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ends = NDArray[np.int64]


class TokenBytes:
    """Looks up the bytes of token ids; ids outside the table (padding rows of a model) are no bytes.

    `initial` gives the bytes of tokens that read differently at the very start of a text: SentencePiece
    tokenizers drop a leading space there.
    """

    def __init__(
        self,
        values: Sequence[bytes],
        special: Collection[int] = (),
        initial: dict[int, bytes] | None = None,
    ) -> None:
        self._bytes = [*values, b""]
        self._lengths = np.array([len(value) for value in self._bytes], dtype=np.int64)
        self._special = np.zeros(len(self._bytes), dtype=bool)
        self._special[list(special)] = True
        self._initial = initial or {}

    def join(self, ids: ArrayLike, *, skip_special: bool = False, inside: bool = False) -> bytes:
        """Return the bytes of `ids`, one after the other; `inside`: behind others, not at the start of a text."""
        known = self._known(ids, skip_special)
        values = [self._bytes[token] for token in known.tolist()]
        first = None if inside else self._first(known, skip_special)
        if first is not None:
            values[first] = self._initial.get(int(known[first]), values[first])
        return b"".join(values)

    def ends(self, ids: ArrayLike, *, skip_special: bool = False) -> Ends:
        """int64[len(ids)]: after how many bytes of `join(ids)` each token ends."""
        known = self._known(ids, skip_special)
        lengths = self._lengths[known]
        first = self._first(known, skip_special)
        if first is not None and int(known[first]) in self._initial:
            lengths[first] = len(self._initial[int(known[first])])
        return np.cumsum(lengths)

    def _known(self, ids: ArrayLike, skip_special: bool) -> NDArray[np.int64]:
        """Replace what has no bytes by the empty last entry of the table."""
        array = np.asarray(ids, dtype=np.int64)
        nothing = len(self._bytes) - 1
        known = np.where((array >= 0) & (array < nothing), array, nothing)
        return np.where(self._special[known], nothing, known) if skip_special else known

    def _first(self, known: NDArray[np.int64], skip_special: bool) -> int | None:
        """Return the position of the token that starts the text: skipped tokens stand before no text."""
        if not self._initial or not len(known):
            return None
        if not skip_special:
            return 0
        present = np.flatnonzero(known < len(self._bytes) - 1)
        return int(present[0]) if len(present) else None


class Decoder:
    """What every tokenizer reads off the bytes of its tokens, which it sets."""

    _bytes: TokenBytes

    def decode(self, ids: ArrayLike, *, skip_special: bool = False) -> str:
        """Return the text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return self.to_bytes(ids, skip_special=skip_special).decode(errors="replace")

    def to_bytes(self, ids: ArrayLike, *, skip_special: bool = False) -> bytes:
        """Return the text of `ids` as bytes."""
        return self._bytes.join(ids, skip_special=skip_special)

    def byte_ends(self, ids: ArrayLike, *, skip_special: bool = False) -> Ends:
        """int64[len(ids)]: after how many bytes of `to_bytes` each token ends."""
        return self._bytes.ends(ids, skip_special=skip_special)
