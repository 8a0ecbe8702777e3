"""What is measured before and after each stage. Knows no stage."""

from __future__ import annotations

from pydantic import Field

from opera_trainer.settings.base import Settings


class EvaluationSettings(Settings):
    """Held-out measurements of one model."""

    samples: int = Field(4, ge=1, le=256, description="Responses a task at temperature 1, and k of pass@k.")
    max_tokens: int = Field(160, ge=1, description="Of a response.")
    batch: int = Field(32, ge=1, description="Tasks a request.")
    concurrency: int = Field(1, ge=1, description="Requests in flight.")
    resamples: int = Field(2000, ge=100, description="Of the bootstrap over tasks.")
