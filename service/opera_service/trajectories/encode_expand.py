"""An item of /expand becomes token ids: the shared prefix and a guiding word for every branch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opera_client.wire import ExpandItem
from opera_service.scoring.tree import Ids
from opera_service.trajectories.encode_rank import EncodedRank, encode_shared
from opera_service.trajectories.field_tokenizer import FieldTokenizer


@dataclass(frozen=True)
class EncodedExpand:
    """Where branches begin."""

    shared: EncodedRank
    """Without candidates."""
    guides: tuple[Ids, ...]
    """By branch: the ids of its guiding word; empty without one."""

    def start(self, branch: int) -> Ids:
        """Return what the first sampled token of `branch` continues."""
        return np.concatenate([self.shared.context_ids, self.guides[branch]])


def encode_expand(item: ExpandItem, index: int, fields: FieldTokenizer) -> EncodedExpand:
    """Encode the item at `index` of a request; raises an `OperaError` that names the wrong field.

    `ContextTooLong` says when prefix, guiding word, `max_tokens` and reference do not fit the model together.
    """
    shared = encode_shared(item, index, fields)
    words = [
        fields.text(word, f"items.{index}.guiding_words.{number}")
        for number, word in enumerate(item.guiding_words)
    ]
    guides = tuple(words[branch % len(words)] if words else shared.prefix_ids[:0] for branch in range(item.n))
    fields.check_length(
        f"items.{index}.max_tokens",
        prompt=len(shared.prompt_ids),
        prefix=len(shared.prefix_ids),
        guiding_word=max(map(len, guides)),
        max_tokens=item.max_tokens,
        reference=len(shared.reference_ids),
    )
    return EncodedExpand(shared, guides)
