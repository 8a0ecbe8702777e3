"""An item of /score becomes token ids: one target after one context, each tokenised alone.

The context starts as the tokenizer starts texts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from opera_client.errors import EmptyContext, EmptyResponse
from opera_client.wire import ScoreItem
from opera_service.scoring.tree import Ids
from opera_service.trajectories.field_tokenizer import FieldTokenizer, given_field


@dataclass(frozen=True)
class EncodedScore:
    """One target after one context."""

    id: str
    context: Ids
    target: Ids


def encode_score(item: ScoreItem, index: int, fields: FieldTokenizer) -> EncodedScore:
    """Encode the item at `index` of a request; raises an `OperaError` that names the wrong field."""
    field = f"items.{index}"
    fields = replace(fields, add_special_tokens=item.add_special_tokens)
    context = fields.start(item.context, item.context_token_ids, f"{field}.context")
    if not len(context):
        raise EmptyContext(
            "the context has no tokens, so the first target token has no log-probability; give a context, the "
            "model's start token for instance",
            field=given_field(f"{field}.context", item.context_token_ids),
        )
    target = fields.tokens(item.target, item.target_token_ids, f"{field}.target")
    target_field = given_field(f"{field}.target", item.target_token_ids)
    if not len(target):
        raise EmptyResponse("the target has no tokens; give the text to price", field=target_field)
    fields.check_length(target_field, context=len(context), target=len(target))
    return EncodedScore(str(index) if item.id is None else item.id, context, target)
