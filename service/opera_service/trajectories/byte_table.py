"""The bytes of every token of any fast tokenizer.

Byte-level vocabularies are read off; all others are asked by decoding. Knows no text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from tokenizers import Tokenizer as RawTokenizer

from opera_service.trajectories.token_bytes import TokenBytes


def byte_table(raw: RawTokenizer, size: int) -> TokenBytes:
    """Return the bytes of every id below `size`."""
    special = [token for token, added in raw.get_added_tokens_decoder().items() if added.special]
    kinds = _decoder_kinds(raw)
    if "ByteLevel" in kinds:
        alphabet = _byte_alphabet()
        return TokenBytes([_byte_level(raw.id_to_token(i), alphabet) for i in range(size)], special)
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


def _byte_level(token: str | None, alphabet: Mapping[str, int]) -> bytes:
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
    values = [text[prefix:].encode() for text in after]
    if byte_fallback:
        for i in range(size):
            byte = re.fullmatch(r"<0x([0-9A-F]{2})>", raw.id_to_token(i) or "")
            if byte:
                values[i] = bytes.fromhex(byte[1])
    initial = {
        i: text.encode()
        for i, text in enumerate(alone)
        if text.encode() != values[i] and values[i].startswith(b" ")
    }
    return TokenBytes(values, special, initial)
