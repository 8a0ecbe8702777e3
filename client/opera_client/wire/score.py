"""POST /score: plain log-probabilities of targets after contexts."""

from __future__ import annotations

from pydantic import Field, model_validator

from opera_client.wire._base import Answer, Detail, Id, Request, Status, Text, TokenIds, needs_one
from opera_client.wire.common import ErrorDetail, ModelInfo, Timing, Usage


class ScoreItem(Request):
    """One target after one context."""

    id: Id | None = None
    context: Text | None = None
    context_token_ids: TokenIds | None = None
    target: Text | None = None
    target_token_ids: TokenIds | None = None
    add_special_tokens: bool = Field(
        True, description="Start a text as the model's tokenizer starts texts; messages and ids are complete."
    )
    entropy: bool = False

    @model_validator(mode="after")
    def _complete(self) -> ScoreItem:
        needs_one(self.context, self.context_token_ids, "context")
        needs_one(self.target, self.target_token_ids, "target")
        return self


class ScoreRequest(Request):
    """Plain log-probabilities of targets."""

    detail: Detail = "reward"
    timeout_s: float | None = Field(None, gt=0)
    weight_version: str | None = None
    run_id: str | None = None
    items: list[ScoreItem] = Field(min_length=1)


class ScoreItemResult(Answer):
    """One target's log-probability."""

    id: str
    status: Status
    sum_logprob: float | None = None
    mean_logprob: float | None = None
    perplexity: float | None = None
    tokens: int | None = None
    mean_entropy: float | None = None
    token_ids: list[int] | None = None
    token_logprobs: list[float] | None = None
    token_entropies: list[float] | None = None
    error: ErrorDetail | None = None


class ScoreResult(Answer):
    """The answer of POST /score."""

    model: ModelInfo
    items: list[ScoreItemResult]
    usage: Usage
    timing_ms: Timing
