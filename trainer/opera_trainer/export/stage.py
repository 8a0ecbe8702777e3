"""The stage `export`: the last trained weights, their tokenizer and a model card in one folder."""

from __future__ import annotations

import shutil

from opera_client.errors import BadInput
from opera_trainer.config import RunConfig, trained
from opera_trainer.stage import Stage, Work, shape_of


def stage(config: RunConfig) -> Stage:
    """Return the stage; it exports what GRPO made, or SFT where there is no GRPO.

    Raises:
        BadInput: the configuration trains nothing.
    """
    made = trained(config)
    if not made:
        raise BadInput("nothing to export: both sft and grpo are null")
    measured = [f"evaluate-{name}" for name in ("base", *made)]
    return Stage(name="export", needs=("tasks", *measured, made[-1]), shape=shape_of(config=config), run=run)


def run(work: Work) -> None:
    """Write `model/`: weights, configuration, tokenizer and README.md."""
    from opera_trainer.export.card import card

    last = trained(work.config)[-1]
    folder = work.folder / "model"
    shutil.copytree(work.inputs[last] / "model", folder, dirs_exist_ok=True)
    (folder / "README.md").write_text(card(work, folder), encoding="utf-8")
