"""POST /expand: branches sampled after a shared prefix, then ordered as /rank does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from opera_client.wire._base import Answer, FirstError, Request, Status
from opera_client.wire.common import ErrorDetail, ModelInfo, Timing, Usage
from opera_client.wire.rank import Branching, CandidateResult

Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], FirstError()]


class ExpandItem(Branching):
    """Sample branches after one shared prefix."""

    n: int = Field(4, ge=1, le=256, description="Branches to sample.")
    guiding_words: Annotated[list[str], FirstError()] = Field(
        default_factory=list,
        max_length=256,
        description="Branch i begins with word i % their number, tokenised alone; an empty one leaves it free.",
    )
    stop: Words = Field(
        default_factory=list,
        max_length=64,
        description="A branch ends before the first of these texts that it writes, as whole words.",
    )
    stop_after: Words = Field(
        default_factory=list,
        max_length=64,
        description="The same, but the branch keeps the text and ends behind it, as a paragraph with its end.",
    )
    max_tokens: int = Field(256, ge=1, le=2**20, description="Sampled tokens, guiding word not counted.")
    temperature: float = Field(1.0, ge=0, le=100, description="0 takes the most likely token.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, lt=2**31, description="0 keeps the whole vocabulary.")
    seed: int | None = Field(None, ge=0, lt=2**32, description="The same seed samples the same branches again.")


class ExpandRequest(Request):
    """Sample branches and order those of each item, best first."""

    timeout_s: float | None = Field(None, gt=0)
    weight_version: str | None = None
    run_id: str | None = None
    items: list[ExpandItem] = Field(min_length=1)


class BranchResult(CandidateResult):
    """One sampled branch; guiding word and a text of `stop_after` included, one of `stop` and the end token not.

    A branch that ended at once is `ok` with 0 tokens and no score, and stands behind all others.
    """

    text: str
    token_ids: list[int]
    guiding_word: str | None = None
    finish_reason: Literal["stop", "length"]
    stopped_by: str | None = None
    """The stop text, or the text of the model's end token; null when `max_tokens` was reached."""


class ExpandItemResult(Answer):
    """One item's branches and their order."""

    id: str
    status: Status
    ranking: list[int]
    """Indices of the branches without errors, best first; ties by index, empty ones last."""
    candidates: list[BranchResult]
    """In the order of their guiding words and seeds; empty when nothing could be sampled."""
    error: ErrorDetail | None = None


class ExpandUsage(Usage):
    """What an answer of /expand cost: ranking as everywhere, and sampling."""

    generated_tokens: int
    """Tokens sampled, those behind a stop text included."""


class ExpandTiming(Timing):
    """Where the time of /expand went, in milliseconds."""

    generate: float


class ExpandResult(Answer):
    """The answer of POST /expand."""

    model: ModelInfo
    items: list[ExpandItemResult]
    usage: ExpandUsage
    timing_ms: ExpandTiming
