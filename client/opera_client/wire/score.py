"""POST /score: plain log-probabilities of targets after contexts, and how other contexts change them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from opera_client.wire._base import (
    Answer,
    Detail,
    Id,
    Prompt,
    Request,
    Status,
    Text,
    TokenIds,
    at_most_one,
    needs_one,
)
from opera_client.wire.common import ErrorDetail, ModelInfo, Timing, Usage
from opera_client.wire.turns import TokenMask

MOST_OTHER_CONTEXTS = 8


class OtherContext(Request):
    """Another context for an item's target: with the reference in it, a hint, a document, or without them."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    context: Prompt | None = Field(None, description="Text, or messages for the model's chat template.")
    context_token_ids: TokenIds | None = None

    @model_validator(mode="after")
    def _complete(self) -> OtherContext:
        needs_one(self.context, self.context_token_ids, "context")
        at_most_one(self.context, self.context_token_ids, "context")
        return self


class ScoreItem(Request):
    """One target after one context."""

    id: Id | None = None
    context: Prompt | None = Field(None, description="Text, or messages for the model's chat template.")
    context_token_ids: TokenIds | None = None
    target: Text | None = None
    target_token_ids: TokenIds | None = None
    target_mask: TokenMask | None = Field(
        None,
        description="One number a token of `target_token_ids`: 0 is fed and not priced (an environment's words).",
    )
    other_contexts: list[OtherContext] = Field(
        default_factory=list, max_length=MOST_OTHER_CONTEXTS, description="The same target after these, too."
    )
    add_special_tokens: bool = Field(
        True, description="Start a text as the model's tokenizer starts texts; messages and ids are complete."
    )
    entropy: bool = False

    @model_validator(mode="after")
    def _complete(self) -> ScoreItem:
        needs_one(self.context, self.context_token_ids, "context")
        at_most_one(self.context, self.context_token_ids, "context")
        needs_one(self.target, self.target_token_ids, "target")
        at_most_one(self.target, self.target_token_ids, "target")
        if self.target_mask is not None and self.target_token_ids is None:
            raise ValueError("`target_mask` says which `target_token_ids` are priced; give them, too")
        names = [one.name for one in self.other_contexts]
        if len(set(names)) < len(names):
            raise ValueError("two of `other_contexts` have one name; give each its own")
        return self


class ScoreRequest(Request):
    """Plain log-probabilities of targets."""

    detail: Detail = "reward"
    timeout_s: float | None = Field(None, gt=0)
    weight_version: str | None = None
    run_id: str | None = None
    items: list[ScoreItem] = Field(min_length=1)


class OtherContextResult(Answer):
    """The item's target after another context. A difference is the log-prob there minus after the item's own."""

    name: str
    sum_logprob: float
    mean_logprob: float
    sum_difference: float
    mean_difference: float
    token_logprobs: list[float | None] | None = None
    """One a target token, with `detail: tokens`; null where it is not priced."""
    token_differences: list[float | None] | None = None


class ScoreItemResult(Answer):
    """One target's log-probability."""

    id: str
    status: Status
    sum_logprob: float | None = None
    mean_logprob: float | None = None
    perplexity: float | None = None
    tokens: int | None = None
    """Priced tokens of the target."""
    mean_entropy: float | None = None
    token_ids: list[int] | None = None
    token_texts: list[str] | None = None
    """The target's tokens as they read, with `detail: tokens`."""
    token_logprobs: list[float | None] | None = None
    """One a target token, with `detail: tokens`; null where it is not priced."""
    token_entropies: list[float | None] | None = None
    other_contexts: list[OtherContextResult] | None = None
    """In the order of the request; null where none were asked for."""
    error: ErrorDetail | None = None


class ScoreResult(Answer):
    """The answer of POST /score."""

    model: ModelInfo
    items: list[ScoreItemResult]
    usage: Usage
    timing_ms: Timing
