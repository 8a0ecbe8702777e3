"""Any fast Hugging Face tokenizer, byte-exact and safe to share between threads.

Encodes with the raw `tokenizers` object, whose truncation and padding are set once and never again: transformers
sets them on each call, which raises "Already borrowed" when another thread is encoding.
Knows no think blocks and no rewards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from numpy.typing import ArrayLike
from tokenizers import Tokenizer as RawTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from opera_client.errors import InvalidRequest, NotFound, NotSupported
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.token_bytes import Ends, TokenBytes

# Spaces, doubled tokens, punctuation, newlines, several bytes a character: what decoders are tempted to alter.
_PROBE = "a a aa, don't . <think>\n\nWait...\r\n\r\n  x=1\t\n\n\n等等 é😀 </think>\n\nNo !"


class HFTokenizer:
    """A tokenizer of transformers. Raises `NotSupported` when its text cannot be cut between tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._template = tokenizer
        self._raw = RawTokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._raw.no_truncation()
        self._raw.no_padding()
        self.vocab_size = max(self._raw.get_vocab(with_added_tokens=True).values()) + 1
        self.eos_id: int | None = tokenizer.eos_token_id
        opening = self._raw.encode("", add_special_tokens=True).ids
        self.bos_id: int | None = opening[0] if opening[:1] == [tokenizer.bos_token_id] else None
        self._pieces = _piece_table(self._raw, self.vocab_size)
        self._check_cuttable()

    @classmethod
    def load(cls, source: str, *, trust_remote_code: bool = False) -> HFTokenizer:
        """Load from a directory or a hub id, running code of its own only if trusted.

        Raises `NotFound` or `NotSupported`, saying why.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            raise NotFound(f"no tokenizer could be loaded from {source!r}: {error}") from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise NotSupported(f"{source!r} has only a slow tokenizer; convert it to a tokenizer.json first")
        return cls(tokenizer)

    @property
    def chat_template(self) -> str | None:
        """The model's own template in Jinja, if it has one."""
        template = self._template.chat_template
        return template if isinstance(template, str) else None

    def encode(self, text: str) -> Ids:
        """Tokenise `text` alone: special tokens written in it are recognised, none are added."""
        # A batch of one: this call computes no offsets, and lets other threads run.
        return as_ids(self._raw.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def decode(self, ids: ArrayLike, *, skip_special: bool = False) -> str:
        """Return the text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        return self.to_bytes(ids, skip_special=skip_special).decode(errors="replace")

    def to_bytes(self, ids: ArrayLike, *, skip_special: bool = False) -> bytes:
        """Return the text of `ids` as bytes."""
        return self._pieces.join(ids, skip_special=skip_special)

    def byte_ends(self, ids: ArrayLike, *, skip_special: bool = False) -> Ends:
        """int64[len(ids)]: after how many bytes of `to_bytes` each token ends."""
        return self._pieces.ends(ids, skip_special=skip_special)

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Ids:
        """Apply the model's own chat template, ready for the assistant's turn.

        Raises `InvalidRequest` when there is no template or it refuses the messages.
        """
        try:
            text = self._template.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
            )
        except (jinja2.TemplateError, ValueError, TypeError, KeyError) as error:
            raise InvalidRequest(
                f"the model's chat template refused the messages ({error}); give the prompt as text or token ids"
            ) from error
        return self.encode(str(text))

    def _check_cuttable(self) -> None:
        ids = self._raw.encode(_PROBE, add_special_tokens=False).ids
        if self.decode(ids) != self._raw.decode(ids, skip_special_tokens=False):
            raise NotSupported(
                "this tokenizer's decoder changes text across token borders, so that responses cannot be cut "
                "between tokens; use a model with a byte-level BPE or SentencePiece tokenizer"
            )


def _piece_table(raw: RawTokenizer, size: int) -> TokenBytes:
    special = [token for token, added in raw.get_added_tokens_decoder().items() if added.special]
    kinds = _decoder_kinds(raw)
    if "ByteLevel" in kinds:
        alphabet = _byte_alphabet()
        return TokenBytes([_byte_level_piece(raw.id_to_token(i), alphabet) for i in range(size)], special)
    return _probed_table(raw, size, special, byte_fallback="ByteFallback" in kinds)


def _decoder_kinds(raw: RawTokenizer) -> set[str]:
    if raw.decoder is None:
        return set()
    decoder = json.loads(raw.decoder.__getstate__())
    return {part["type"] for part in decoder.get("decoders", [decoder])}


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 stands for itself, the other bytes for U+0100 and on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {
        chr(256 + rank): value for rank, value in enumerate(others)
    }


def _byte_level_piece(token: str | None, alphabet: Mapping[str, int]) -> bytes:
    if token is None:  # a hole in the vocabulary
        return b""
    if all(char in alphabet for char in token):
        return bytes(alphabet[char] for char in token)
    return token.encode()  # an added token with characters outside the alphabet is its own text


def _probed_table(raw: RawTokenizer, size: int, special: list[int], *, byte_fallback: bool) -> TokenBytes:
    """Ask the decoder what each token adds after another one, and what it says at the start of a text."""
    anchor = raw.encode("a", add_special_tokens=False).ids[-1]
    prefix = len(raw.decode([anchor], skip_special_tokens=False))
    after = raw.decode_batch([[anchor, i] for i in range(size)], skip_special_tokens=False)
    alone = raw.decode_batch([[i] for i in range(size)], skip_special_tokens=False)
    pieces = [text[prefix:].encode() for text in after]
    if byte_fallback:
        for i in range(size):
            byte = re.fullmatch(r"<0x([0-9A-F]{2})>", raw.id_to_token(i) or "")
            if byte:
                pieces[i] = bytes.fromhex(byte[1])
    initial = {
        i: text.encode()
        for i, text in enumerate(alone)
        if text.encode() != pieces[i] and pieces[i].startswith(b" ")
    }
    return TokenBytes(pieces, special, initial)
