"""An item of /rank or /expand becomes token ids: prompt, prefix, candidate branches, maybe a reference.

Every text is tokenised alone and joined as ids, so that all branches continue exactly the same prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from opera_client.errors import EmptyContext, EmptyResponse, OperaError
from opera_client.wire import Branching, Candidate, RankBy, RankItem
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.field_tokenizer import FieldTokenizer, given_field
from opera_service.trajectories.reference import must_say_something


@dataclass(frozen=True)
class EncodedRank:
    """Candidate branches after `prompt_ids + prefix_ids`."""

    id: str
    by: RankBy
    prompt_ids: Ids
    prefix_ids: Ids
    reference_ids: Ids
    """Empty unless the order is by reference."""
    candidates: Mapping[int, Ids] = field(default_factory=dict)
    """By position in the request: the good candidates."""
    errors: Mapping[int, OperaError] = field(default_factory=dict)
    """By position in the request: why a candidate could not be encoded."""

    @property
    def context_ids(self) -> Ids:
        """What a branch continues."""
        return np.concatenate([self.prompt_ids, self.prefix_ids])


def encode_shared(item: Branching, index: int, fields: FieldTokenizer) -> EncodedRank:
    """Encode what all branches of the item at `index` of a request share.

    Raises `OperaError` when prompt, prefix or reference are wrong.
    """
    path = f"items.{index}"
    fields = replace(fields, add_special_tokens=item.add_special_tokens)
    prompt = fields.prompt(item.prompt, item.prompt_token_ids, f"{path}.prompt")
    first = fields.tokens if len(prompt) else fields.start
    prefix = first(item.prefix, item.prefix_token_ids, f"{path}.prefix")
    prompt_field = given_field(f"{path}.prompt", item.prompt_token_ids)
    if not len(prompt) and item.by == "sequence":
        raise EmptyContext(
            "the prompt has no tokens, so the first token of the sequence has no log-probability; give a prompt",
            field=prompt_field,
        )
    if not len(prompt) + len(prefix):
        raise EmptyContext("prompt and prefix have no tokens; give at least one of them", field=prompt_field)
    reference = as_ids([])
    if item.by == "reference":
        reference = fields.tokens(item.reference, item.reference_token_ids, f"{path}.reference")
        text = item.reference if item.reference_token_ids is None else None
        where = given_field(f"{path}.reference", item.reference_token_ids)
        must_say_something(text, reference, fields.tokenizer, where)
    return EncodedRank(
        id=str(index) if item.id is None else item.id,
        by=item.by,
        prompt_ids=prompt,
        prefix_ids=prefix,
        reference_ids=reference,
    )


def encode_rank(item: RankItem, index: int, fields: FieldTokenizer) -> EncodedRank:
    """Encode the item at `index` of a request; a wrong candidate has its own error.

    Raises `OperaError` when prompt, prefix or reference are wrong, which concern every candidate.
    """
    shared = encode_shared(item, index, fields)
    candidates: dict[int, Ids] = {}
    errors: dict[int, OperaError] = {}
    for position, candidate in enumerate(item.candidates):
        path = f"items.{index}.candidates.{position}"
        try:
            branch = _branch(candidate, path, fields)
            fields.check_length(
                path,
                prompt=len(shared.prompt_ids),
                prefix=len(shared.prefix_ids),
                candidate=len(branch),
                reference=len(shared.reference_ids),
            )
            candidates[position] = branch
        except OperaError as error:
            errors[position] = error
    return replace(shared, candidates=candidates, errors=errors)


def _branch(candidate: str | Candidate, path: str, fields: FieldTokenizer) -> Ids:
    if isinstance(candidate, str):
        branch = fields.text(candidate, path)
    else:
        path = f"{path}.token_ids"
        branch = fields.checked(as_ids(candidate.token_ids), path)
    if not len(branch):
        raise EmptyResponse("the candidate has no tokens; leave it out", field=path)
    return branch
