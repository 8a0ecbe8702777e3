"""An item of /score becomes token ids: one target after one context or several, each tokenised alone.

A context of text starts as the tokenizer starts texts, one of messages as the chat template does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import EmptyContext, EmptyResponse, InvalidRequest
from opera_client.wire import Prompt, ScoreItem
from opera_service.scoring.tree import Ids
from opera_service.trajectories.field_tokenizer import FieldTokenizer, given_field


@dataclass(frozen=True)
class EncodedScore:
    """One target after one context, and after others."""

    id: str
    context: Ids
    target: Ids
    priced: NDArray[np.bool_]
    """Which tokens of the target count."""
    others: tuple[Ids, ...] = ()
    """The other contexts, in order."""


def encode_score(item: ScoreItem, index: int, fields: FieldTokenizer) -> EncodedScore:
    """Encode the item at `index` of a request; raises an `OperaError` that names the wrong field."""
    field = f"items.{index}"
    fields = replace(fields, add_special_tokens=item.add_special_tokens)
    context = _context(item.context, item.context_token_ids, f"{field}.context", fields)
    target = fields.tokens(item.target, item.target_token_ids, f"{field}.target")
    target_field = given_field(f"{field}.target", item.target_token_ids)
    if not len(target):
        raise EmptyResponse("the target has no tokens; give the text to price", field=target_field)
    priced = _priced(item.target_mask, len(target), f"{field}.target_mask")
    fields.check_length(target_field, context=len(context), target=len(target))
    others = []
    for at, other in enumerate(item.other_contexts):
        where = f"{field}.other_contexts.{at}.context"
        ids = _context(other.context, other.context_token_ids, where, fields)
        fields.check_length(given_field(where, other.context_token_ids), context=len(ids), target=len(target))
        others.append(ids)
    return EncodedScore(str(index) if item.id is None else item.id, context, target, priced, tuple(others))


def _context(context: Prompt | None, ids: Sequence[int] | None, field: str, fields: FieldTokenizer) -> Ids:
    found = fields.prompt(context, ids, field)
    if not len(found):
        raise EmptyContext(
            "the context has no tokens, so the first target token has no log-probability; give a context, the "
            "model's start token for instance",
            field=given_field(field, ids),
        )
    return found


def _priced(mask: Sequence[int] | None, tokens: int, field: str) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(tokens, dtype=np.bool_)
    if len(mask) != tokens:
        raise InvalidRequest(
            f"target_mask has {len(mask)} numbers and the target has {tokens} tokens; give one a token",
            field=field,
        )
    if not any(mask):
        raise EmptyResponse("target_mask has no 1, so nothing is priced", field=field)
    return np.array(mask, dtype=np.bool_)
