"""The known good answer as the tokens to price: its answer part, alone, with what the rules put around it."""

from __future__ import annotations

import numpy as np

from opera_client.errors import EmptyReference
from opera_client.wire import Group
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.encode_ids import answer_start, without_end
from opera_service.trajectories.encoding_config import EncodingConfig
from opera_service.trajectories.field_tokenizer import FieldTokenizer, given_field
from opera_service.trajectories.think import find_thought, is_blank


def read_reference(group: Group, field: str, fields: FieldTokenizer, rules: EncodingConfig) -> tuple[str, Ids]:
    """Return the text of the priced part, for guards that compare words, and all ids to price.

    Tokenised once, alone, without special tokens (defect D6). End-of-turn tokens of the reference itself are
    dropped; `score_end` adds one back. Raises `EmptyReference` when nothing is left to price (D8).
    """
    tokenizer, context = fields.tokenizer, rules.context
    text, ids = group.reference, fields.tokens(group.reference, group.reference_token_ids, field)
    field = given_field(field, group.reference_token_ids)
    ids = ids[: without_end(ids, tokenizer.eos_id)]
    raw = tokenizer.to_bytes(ids)
    if context.reference_part == "answer" and _starts_with_thought(raw, rules.think.open.encode()):
        thought = find_thought(raw, rules.think, opened=False)
        if not thought.closed:
            raise EmptyReference(
                f"the reference opens a think block and never closes it; close it with {rules.think.close}, or "
                "set context.reference_part to full",
                field=field,
            )
        text = raw[thought.answer :].decode(errors="replace")
        given = group.reference_token_ids is not None
        ids = ids[answer_start(thought, tokenizer.byte_ends(ids)) :] if given else fields.text(text, field)
    if text is None:
        text = raw.decode(errors="replace")
    if not len(ids) or not text.strip():
        raise EmptyReference("the reference has no text to price; give the known good answer", field=field)
    end = [] if tokenizer.eos_id is None or not context.score_end else [tokenizer.eos_id]
    prefix, suffix = tokenizer.encode(context.reference_prefix), tokenizer.encode(context.reference_suffix)
    return text, fields.checked(np.concatenate([prefix, ids, suffix, as_ids(end)]), field)


def _starts_with_thought(raw: bytes, opening: bytes) -> bool:
    at = raw.find(opening)
    return at >= 0 and is_blank(raw[:at])
