"""Which cells an ablation has. Knows no stage."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from opera_trainer.settings.base import Settings


class Cell(Settings):
    """One variant of a run, trained once a seed."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="Also its folder.")
    note: str = Field("", description="What it is, for the table.")
    grpo: dict[str, Any] = Field(default_factory=dict, description="Overrides of the run's section `grpo`.")
    cold_start: bool = Field(True, description="Start from the fine-tuned model; else from the base.")
    references: dict[str, Any] | None = Field(
        None,
        description="Not GRPO but its control: fine-tune on the training tasks' references, with these keys over "
        "the run's section `references`.",
    )


class AblationSettings(Settings):
    """The cells, the most important first, and the seeds of each."""

    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, max_length=10)
    cells: tuple[Cell, ...] = Field(min_length=1)
