"""What is measured before and after each stage. Knows no stage."""

from __future__ import annotations

from pydantic import Field

from opera_trainer.settings import Settings


class EvaluationSettings(Settings):
    """Held-out measurements of one model."""

    samples: int = Field(4, ge=1, description="Responses a task at temperature 1.")
