"""POST /rank: candidate branches after a shared prefix, ordered by log-probability."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from opera_client.wire._base import Answer, FirstError, Id, Prompt, Request, Status, Text, TokenIds, needs_one
from opera_client.wire.common import ErrorDetail, ModelInfo, Timing, Usage

RankBy = Literal["branch", "branch_sum", "sequence", "reference"]


class Candidate(Request):
    """A candidate continuation given as token ids."""

    token_ids: TokenIds


class Branching(Request):
    """A prompt and a prefix, after which branches are compared."""

    id: Id | None = None
    prompt: Prompt | None = None
    prompt_token_ids: TokenIds | None = None
    prefix: Text | None = None
    prefix_token_ids: TokenIds | None = None
    add_special_tokens: bool = Field(
        True, description="Start a text as the model's tokenizer starts texts; messages and ids are complete."
    )
    by: RankBy = "branch"
    reference: str | None = None
    reference_token_ids: TokenIds | None = None

    @model_validator(mode="after")
    def _complete(self) -> Branching:
        needs_one(self.prompt, self.prompt_token_ids, "prompt")
        if self.by == "reference":
            needs_one(self.reference, self.reference_token_ids, "reference")
        return self


class RankItem(Branching):
    """Candidate branches after one shared prefix."""

    candidates: Annotated[list[str | Candidate], FirstError()] = Field(min_length=1)


class RankRequest(Request):
    """Order the candidates of each item, best first."""

    timeout_s: float | None = Field(None, gt=0)
    weight_version: str | None = None
    run_id: str | None = None
    items: list[RankItem] = Field(min_length=1)


class CandidateResult(Answer):
    """One candidate's log-probability and place."""

    status: Status
    score: float | None = None
    """What the candidates are ordered by."""
    mean_logprob: float | None = None
    sum_logprob: float | None = None
    perplexity: float | None = None
    tokens: int | None = None
    """Tokens the mean is taken over: the branch, prefix + branch, or the reference, as `by` says."""
    rank: int | None = None
    """0 is best."""
    error: ErrorDetail | None = None


class RankItemResult(Answer):
    """One item's order."""

    id: str
    status: Status
    ranking: list[int]
    """Indices of the scored candidates, best first; ties by index."""
    candidates: list[CandidateResult]
    error: ErrorDetail | None = None


class RankResult(Answer):
    """The answer of POST /rank."""

    model: ModelInfo
    items: list[RankItemResult]
    usage: Usage
    timing_ms: Timing
