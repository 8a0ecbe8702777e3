"""An item of /rank becomes token ids: one shared prefix, its candidate branches, maybe a reference.

Every text is tokenised alone and joined as ids, so that all branches continue exactly the same prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

from opera_client.errors import EmptyContext, EmptyReference, EmptyResponse, OperaError
from opera_client.wire import Candidate, RankBy, RankItem
from opera_service.scoring.tree import Ids, as_ids
from opera_service.trajectories.reader import Reader, given_field


@dataclass(frozen=True)
class EncodedRank:
    """Candidate branches after `prompt_ids + prefix_ids`."""

    id: str
    by: RankBy
    prompt_ids: Ids
    prefix_ids: Ids
    reference_ids: Ids
    """Empty unless the order is by reference."""
    candidates: dict[int, Ids]
    """By position in the request: the good candidates."""
    errors: dict[int, OperaError]
    """By position in the request: why a candidate could not be encoded."""


def encode_rank(item: RankItem, index: int, reader: Reader) -> EncodedRank:
    """Encode the item at `index` of a request; a wrong candidate has its own error.

    Raises `OperaError` when prompt, prefix or reference are wrong, which concern every candidate.
    """
    field = f"items.{index}"
    prompt = reader.prompt(item.prompt, item.prompt_token_ids, f"{field}.prompt")
    prefix = reader.tokens(item.prefix, item.prefix_token_ids, f"{field}.prefix")
    prompt_field = given_field(f"{field}.prompt", item.prompt_token_ids)
    if not len(prompt) and item.by == "sequence":
        raise EmptyContext(
            "the prompt has no tokens, so the first token of the sequence has no log-probability; give a prompt",
            field=prompt_field,
        )
    if not len(prompt) + len(prefix):
        raise EmptyContext("prompt and prefix have no tokens; give at least one of them", field=prompt_field)
    reference = as_ids([])
    if item.by == "reference":
        reference = reader.tokens(item.reference, item.reference_token_ids, f"{field}.reference")
        if not len(reference):
            raise EmptyReference(
                "the reference has no tokens; give the known good answer",
                field=given_field(f"{field}.reference", item.reference_token_ids),
            )
    candidates: dict[int, Ids] = {}
    errors: dict[int, OperaError] = {}
    for position, candidate in enumerate(item.candidates):
        path = f"{field}.candidates.{position}"
        try:
            branch = _branch(candidate, path, reader)
            reader.check_length(
                path, prompt=len(prompt), prefix=len(prefix), candidate=len(branch), reference=len(reference)
            )
            candidates[position] = branch
        except OperaError as error:
            errors[position] = error
    return EncodedRank(
        id=str(index) if item.id is None else item.id,
        by=item.by,
        prompt_ids=prompt,
        prefix_ids=prefix,
        reference_ids=reference,
        candidates=candidates,
        errors=errors,
    )


def _branch(candidate: str | Candidate, field: str, reader: Reader) -> Ids:
    if isinstance(candidate, str):
        branch = reader.text(candidate, field)
    else:
        field = f"{field}.token_ids"
        branch = reader.checked(as_ids(candidate.token_ids), field)
    if not len(branch):
        raise EmptyResponse("the candidate has no tokens; leave it out", field=field)
    return branch
