"""Which tasks a run trains on, validates on and is tested on. Knows no stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from opera_trainer.settings.base import Settings


class TasksSettings(Settings):
    """Where tasks come from and how many a split and tier has, at most."""

    source: str = Field(
        "world",
        description="`world`: the built-in world of the embedded model; `open`: the open-ended tasks that come "
        "with the package; a .jsonl or .parquet file; a folder of such files, or one saved by `datasets`; else "
        "the name of a data set that `datasets` can load.",
    )
    subset: str | None = Field(None, description="Configuration of a named data set.")
    source_split: str = Field(
        "train",
        description="Split of a named data set. In a folder, files of this name (`train.jsonl`, `train-0.parquet`)"
        " are read alone where there are any. Our own splits are made by hash.",
    )
    prompt_column: str = Field("prompt", description="Text, or a list of {role, content} messages.")
    reference_column: str = Field("reference", description="The known good answer, text.")
    second_reference_column: str = Field(
        "second_reference",
        description="Another good answer, text; a row may lack it. Held out for judges: no reward sees it.",
    )
    kind_column: str | None = Field(None, description="Says `math` row by row; everything else is open.")
    kind: Literal["open", "math"] = Field("open", description="Of all rows, without `kind_column`.")
    check: Literal["exact", "math"] | None = Field(
        None, description="Exact check of a data set's answers, for evaluation only; the world has its own."
    )
    system: str | None = Field(None, description="System message before every prompt that has none.")
    max_prompt_tokens: int | None = Field(None, ge=1, description="Longer prompts, chat template and all, go.")
    min_reference_tokens: int = Field(1, ge=1, description="Shorter references go.")
    max_reference_tokens: int | None = Field(None, ge=1, description="Longer references go.")
    synthesis: int = Field(300, ge=0, description="Tasks of the train split for the cold start.")
    train: int = Field(1000, ge=1, description="Further tasks of the train split, for GRPO.")
    validation: int = Field(64, ge=0, description="Tasks that choose the best checkpoint.")
    test: int = Field(256, ge=0, description="Held-out tasks a tier.")
