"""What many answers share: the model behind a number, its cost, an error.

Token counts are tokens, times milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

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
    recomputed_contexts: int = 0
    """Contexts that a vLLM computed in full because its prefix cache was not read, or not to be trusted."""
    route: str = ""
    """How contexts are computed, as `GET /model` says."""
    route_reason: str = ""
    """Why so, where it was not the user's choice."""

    @classmethod
    def total(cls, parts: Sequence[Self]) -> Self:
        """Return what some answers cost in all; different routes are named one after another."""
        found: dict[str, object] = {}
        for name, field in cls.model_fields.items():
            values = [getattr(part, name) for part in parts]
            if field.annotation is str:
                found[name] = "; ".join(dict.fromkeys(filter(None, values)))
            else:
                found[name] = sum(values)
        return cls.model_validate(found)


class Timing(Answer):
    """Where the time of a request went, in milliseconds."""

    encode: float
    queue: float
    engine: float
    total: float
