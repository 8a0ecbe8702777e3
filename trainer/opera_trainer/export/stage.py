"""The stage `export`: the last trained weights, their tokenizer and a model card in one folder."""

from __future__ import annotations

import shutil

from opera_client.errors import BadInput
from opera_trainer.config import RunConfig
from opera_trainer.stage import Stage, Work, shape_of


def stage(config: RunConfig) -> Stage:
    """Return the stage; it exports what GRPO made, or SFT where there is no GRPO.

    Raises:
        BadInput: the configuration trains nothing.
    """
    trained = [name for name in ("sft", "grpo") if getattr(config, name) is not None]
    if not trained:
        raise BadInput("nothing to export: both sft and grpo are null")
    measured = [f"evaluate-{name}" for name in ("base", *trained)]
    return Stage(name="export", needs=("tasks", *measured, trained[-1]), shape=shape_of(config=config), run=run)


def run(work: Work) -> None:
    """Write `model/`: weights, configuration, tokenizer and README.md."""
    from opera_trainer.export.card import card

    last = next(name for name in ("grpo", "sft") if name in work.inputs)
    folder = work.folder / "model"
    shutil.copytree(work.inputs[last] / "model", folder, dirs_exist_ok=True)
    (folder / "README.md").write_text(card(work, folder), encoding="utf-8")
