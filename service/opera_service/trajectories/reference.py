"""The known good answer as the tokens to price: its answer part, alone, with what the rules put around it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np

from opera_client.errors import EmptyReference
from opera_client.wire import Group
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.encode_ids import answer_start, differ, without_end
from opera_service.trajectories.encoding_config import EncodingConfig
from opera_service.trajectories.field_tokenizer import FieldTokenizer, given_field
from opera_service.trajectories.think import find_thought, is_blank
from opera_service.trajectories.tokenizer import Tokenizer


@dataclass(frozen=True)
class Reference:
    """What is priced of a known good answer."""

    text: str
    """The priced part, for guards that compare words."""
    ids: Ids
    """All ids to price."""
    flags: tuple[str, ...] = ()
    """`reference_think_unopened`: a closing tag without an opening one ended a thought.
    `reference_text_ids_differ`: the text is not what the ids say."""


def read_references(group: Group, field: str, fields: FieldTokenizer, rules: EncodingConfig) -> list[Reference]:
    """Return what to price of the group's reference, or of each alternative; raises as `read_reference`."""
    if isinstance(group.reference, str) or not group.reference or group.reference_token_ids is not None:
        shown = group.reference if isinstance(group.reference, str) else None
        return [read_reference(shown, group.reference_token_ids, field, fields, rules)]
    return [
        read_reference(text, None, f"{field}.{number}", fields, rules)
        for number, text in enumerate(group.reference)
    ]


def read_reference(
    text: str | None, given: list[int] | None, field: str, fields: FieldTokenizer, rules: EncodingConfig
) -> Reference:
    """Return what to price of one reference, given as text or as ids; guards read the text if it is the ids'.

    Tokenised once, alone, without special tokens (defect D6). End-of-turn tokens and padding of the reference
    itself are dropped; `score_end` adds the end of a turn. Raises `EmptyReference` when nothing is left to price
    (D8).
    """
    tokenizer, context = fields.tokenizer, rules.context
    ids = fields.tokens(text, given, field)
    field = given_field(field, given)
    length = without_end(ids, tokenizer)
    if length < len(ids):
        text, ids = None, ids[:length]
    raw = tokenizer.to_bytes(ids)
    flags: tuple[str, ...] = ()
    if text is not None and given is not None and differ(text, ids, tokenizer):
        text, flags = None, ("reference_text_ids_differ",)
    thought = find_thought(raw, rules.think.model_copy(update={"mode": "required"}))
    unopened = "think_unopened" in thought.flags
    if context.reference_part == "answer" and (unopened or _starts_with_thought(raw, rules.think.open_tag)):
        if not thought.closed:
            raise EmptyReference(
                "the reference opens a think block and never closes it; close it with "
                f"{rules.think.close_tag.decode()}, or set context.reference_part to full",
                field=field,
            )
        text = raw[thought.answer :].decode(errors="replace")
        ids = (
            ids[answer_start(thought, tokenizer.byte_ends(ids)) :]
            if given is not None
            else fields.text(text, field)
        )
        flags += ("reference_think_unopened",) if unopened else ()
    if text is None:
        text = raw.decode(errors="replace")
    must_say_something(text, ids, tokenizer, field)
    end = [] if tokenizer.turn_end_id is None or not context.score_end else [tokenizer.turn_end_id]
    prefix = tokenizer.encode_inside(context.reference_prefix)
    suffix = tokenizer.encode_inside(context.reference_suffix)
    return Reference(text, fields.checked(np.concatenate([prefix, ids, suffix, as_ids(end)]), field), flags)


def must_say_something(text: str | None, ids: Ids, tokenizer: Tokenizer, field: str) -> None:
    """Raise `EmptyReference` where a reader sees nothing in the text, where there is one, or in the ids."""
    visible = tokenizer.to_bytes(ids, skip_special=True).decode(errors="replace")
    if not (says_something(visible) and (text is None or says_something(text))):
        raise EmptyReference(
            "the reference says nothing: it has no letter, digit or symbol that a reader can see; give the known "
            "good answer",
            field=field,
        )


def says_something(text: str) -> bool:
    """Whether there is a letter, a number or a symbol (`+`, an emoji); blanks and punctuation say nothing."""
    return any(unicodedata.category(char)[0] in "LNS" for char in text)


def _starts_with_thought(raw: bytes, opening: bytes) -> bool:
    at = raw.find(opening)
    return at >= 0 and is_blank(raw[:at])
