"""What many answers share: the model behind a number, its cost, an error.

Token counts are tokens, times milliseconds.
"""

from __future__ import annotations

from opera_client.wire._base import Answer


class ErrorDetail(Answer):
    """Why something was not scored and what to do about it."""

    code: str
    message: str
    retryable: bool = False
    field: str | None = None
    request_id: str | None = None


class ErrorBody(Answer):
    """The body of every non-2xx answer."""

    error: ErrorDetail


class ModelInfo(Answer):
    """The model behind a number."""

    name: str
    revision: str
    weight_version: str
    dtype: str
    engine: str


class Usage(Answer):
    """What an answer cost, in tokens."""

    tokens_naive: int
    """Re-encoding every context from scratch."""
    tokens_computed: int
    """Tokens that really went through the model."""
    scored_tokens: int
    """Log-probabilities read."""
    cache_hits: int = 0
    """Token trees (groups, mostly) whose numbers the service had already."""
    tokens_cached: int = 0
    """Tokens that would have gone through the model for them."""


class Timing(Answer):
    """Where the time of a request went, in milliseconds."""

    encode: float
    queue: float
    engine: float
    total: float
