"""Which tasks a run trains on, validates on and is tested on. Knows no stage."""

from __future__ import annotations

from pydantic import Field

from opera_trainer.settings import Settings


class TasksSettings(Settings):
    """Where tasks come from and how many a split and tier has."""

    source: str = Field(
        "world", description="`world`: the built-in world of the embedded model; else a data file or data set."
    )
    synthesis: int = Field(300, ge=0, description="Tasks of the train split for the cold start.")
    train: int = Field(1000, ge=1, description="Further tasks of the train split, for GRPO.")
    validation: int = Field(64, ge=0, description="Tasks that choose the best checkpoint.")
    test: int = Field(256, ge=0, description="Held-out tasks a tier.")
