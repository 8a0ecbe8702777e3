"""Any fast Hugging Face tokenizer, byte-exact and safe to share between threads.

Encodes with the raw `tokenizers` object, whose truncation and padding are set once and never again: transformers
sets them on each call, which raises "Already borrowed" when another thread is encoding.
Knows no think blocks and no rewards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as RawTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.hub import cached_file

from opera_client.errors import InvalidRequest, NotFound, NotSupported
from opera_service.failures import reason_of
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.byte_table import byte_table
from opera_service.trajectories.chat_format import ChatFormat
from opera_service.trajectories.messages import between, rendered, spoken
from opera_service.trajectories.token_bytes import Decoder

_ANCHORS = ("\n", "a", ".")
"""What a text is tokenised behind to keep its own first character as it is."""
# Spaces, doubled tokens, punctuation, newlines, several bytes a character: what decoders are tempted to alter.
_PROBE = "a a aa, don't . <think>\n\nWait...\r\n\r\n  x=1\t\n\n\n等等 é😀 </think>\n\nNo !"


class HFTokenizer(Decoder):
    """A tokenizer of transformers. Raises `NotSupported` when its text cannot be cut between tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, end_ids: Collection[int] = ()) -> None:
        """`end_ids` are the ends of a turn that the model's configuration lists."""
        self.loaded = tokenizer
        """As transformers made it."""
        self._raw = RawTokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._raw.no_truncation()
        self._raw.no_padding()
        self.vocab_size = max(self._raw.get_vocab(with_added_tokens=True).values()) + 1
        self._added = self._raw.get_added_tokens_decoder()
        self._split = _splitter([added.content for added in self._added.values()])
        self._bytes = byte_table(self._raw, self.vocab_size)
        self._check_cuttable()
        self.eos_id: int | None = tokenizer.eos_token_id
        self.bos_id: int | None = tokenizer.bos_token_id
        self.pad_id: int | None = tokenizer.pad_token_id
        self.start_ids = _start_ids(self._raw)
        self._form = ChatFormat.of(self._render, self.chat_template)
        self.tags, self.header = self._form.tags, self._form.header
        ends = {*end_ids} | ({self.eos_id} if self.eos_id is not None else set())
        self.turn_end_id = self._turn_end(ends)
        self.end_ids = frozenset(ends | ({self.turn_end_id} if self.turn_end_id is not None else set()))
        padding = {self.pad_id} if self.pad_id in self._added and self._added[self.pad_id].special else set()
        self.closing_ids = self.end_ids | padding

    @classmethod
    def load(cls, source: str, *, trust_remote_code: bool = False) -> HFTokenizer:
        """Load from a directory or a hub id, running code of its own only if trusted.

        Raises `NotFound` or `NotSupported`, saying why.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            reason = reason_of(error)
            raise NotFound(f"no tokenizer could be loaded from {source!r}: {reason}") from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise NotSupported(f"{source!r} has only a slow tokenizer; convert it to a tokenizer.json first")
        return cls(tokenizer, listed_ends(source))

    def tokens_unlike(self, other: HFTokenizer) -> list[tuple[str, int, int | None]]:
        """Return the tokens that `other` lacks or has under another id: token, id here, id there; by id here."""
        there = other._raw.get_vocab(with_added_tokens=True)
        own = self._raw.get_vocab(with_added_tokens=True)
        return [
            (token, at, there.get(token))
            for token, at in sorted(own.items(), key=lambda pair: pair[1])
            if there.get(token) != at
        ]

    @property
    def chat_template(self) -> str | None:
        """The model's own template in Jinja, if it has one."""
        template = self.loaded.chat_template
        return template if isinstance(template, str) else None

    def encode(self, text: str) -> Ids:
        """Tokenise `text` alone: special tokens written in it are recognised, none are added."""
        # A batch of one: this call computes no offsets, and lets other threads run.
        return as_ids(self._raw.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def encode_inside(self, text: str) -> Ids:
        """Tokenise `text` to stand behind other tokens: the joined pieces read as the joined texts."""
        ids = self.encode(text)
        if self._inside(ids) == text.encode():
            return ids
        parts = [self._continued(part) for part in self._split(text)]
        found = np.concatenate([*parts, as_ids([])])
        return found if self._inside(found) == text.encode() else ids

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> Ids:
        """Apply the model's own chat template, ready for the assistant's turn.

        Raises `InvalidRequest` when there is no template or it refuses the messages.
        """
        if self.chat_template is None:
            raise InvalidRequest(
                "the model has no chat template; give the prompt as text or token ids, or put a "
                "chat_template.jinja into the model's folder"
            )
        return self.encode(rendered(messages, self._render, self._form))

    def spoken(self, message: Mapping[str, Any]) -> str:
        """Return one turn of the assistant as the model writes it, without its end."""
        return spoken(message, self._render, self._form)

    def between(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Return what the template writes between two turns of the assistant."""
        return between(messages, self._render, self._form)

    def _render(self, messages: Sequence[Mapping[str, Any]], opened: bool) -> str:
        return str(
            self.loaded.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, add_generation_prompt=opened
            )
        )

    def _turn_end(self, listed: Collection[int]) -> int | None:
        """Return the id with which the template ends an answer, at the end of a conversation or before a turn."""
        for place, text in enumerate(self._form.endings):
            for token in self.encode_inside(text).tolist():
                added = self._added.get(token)
                if token in listed or (place == 0 and added is not None and added.special):
                    return int(token)
        return self.eos_id

    def _continued(self, part: str) -> Ids:
        """Tokenise `part`, an added token or a text without any, behind a character that does not join it."""
        for anchor in _ANCHORS:
            lead, whole = self.encode(anchor), self.encode(anchor + part)
            rest = whole[len(lead) :]
            if np.array_equal(whole[: len(lead)], lead) and self._inside(rest) == part.encode():
                return rest
        return self.encode(part)

    def _inside(self, ids: Ids) -> bytes:
        """Return the bytes of `ids` behind other tokens."""
        return self._bytes.join(ids, inside=True)

    def _check_cuttable(self) -> None:
        ids = self._raw.encode(_PROBE, add_special_tokens=False).ids
        if self.decode(ids) != self._raw.decode(ids, skip_special_tokens=False):
            raise NotSupported(
                "this tokenizer's decoder changes text across token borders, so that responses cannot be cut "
                "between tokens; use a model with a byte-level BPE or SentencePiece tokenizer"
            )


def listed_ends(source: str) -> frozenset[int]:
    """Return all end ids that the configurations of the model at `source` list; none where there are none."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        try:
            path = cached_file(source, name)
            listed = json.loads(Path(path).read_text(encoding="utf-8")).get("eos_token_id") if path else None
        except (OSError, ValueError, AttributeError):
            continue
        found |= {listed} if isinstance(listed, int) else set(listed or ())
    return frozenset(found)


def _start_ids(raw: RawTokenizer) -> tuple[int, ...]:
    """Return what stands before the text in `[CLS] text [SEP]` and its like."""
    with_all = raw.encode("a", add_special_tokens=True).ids
    alone = raw.encode("a", add_special_tokens=False).ids
    for start in range(len(with_all) - len(alone) + 1):
        if alone and with_all[start : start + len(alone)] == alone:
            return tuple(with_all[:start])
    return ()


def _splitter(added: Collection[str]) -> Callable[[str], list[str]]:
    """Return what cuts a text into added tokens and the texts between them."""
    if not added:
        return lambda text: [text]
    pattern = re.compile("(" + "|".join(re.escape(one) for one in sorted(added, key=len, reverse=True)) + ")")
    return lambda text: [part for part in pattern.split(text) if part]
