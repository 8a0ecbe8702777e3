"""Cells and seeds become runs: what is common to a seed is made once, each cell in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_client.errors import BadInput
from opera_trainer import pipeline
from opera_trainer.config import RunConfig, judged, trained, validated
from opera_trainer.settings.ablation import Cell
from opera_trainer.stage import finished, run_stages

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """One cell at one seed."""

    cell: Cell
    seed: int
    config: RunConfig
    common: Path
    """Folder of what all cells of the seed share: tasks, cold start, SFT and their evaluations."""
    folder: Path
    """Of the cell's own stages."""

    @property
    def trained(self) -> str:
        """Name of the stage that the cell varies: `grpo`, or its control `references`."""
        return trained(self.config)[-1]

    @property
    def start(self) -> str:
        """Name of the evaluation of what that stage starts from."""
        return "evaluate-sft" if self.config.sft is not None else "evaluate-base"

    @property
    def done(self) -> bool:
        """Whether it was trained and measured."""
        return finished(self.folder / f"evaluate-{self.trained}") is not None


def trials(config: RunConfig, out: Path, seeds: Sequence[int] = (), only: Sequence[str] = ()) -> Iterator[Trial]:
    """Yield the trials of a configuration: cell by cell, each at all seeds; `seeds` and `only` leave others out.

    Raises:
        BadInput: the configuration has no such cell, or a cell's overrides are wrong.
    """
    if config.ablation is None or config.grpo is None:
        raise BadInput("ablate needs the sections ablation and grpo")
    names = [cell.name for cell in config.ablation.cells]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise BadInput(f"--only: no cell {', '.join(unknown)}; there are {', '.join(names)}")
    for cell in config.ablation.cells:
        if only and cell.name not in only:
            continue
        for seed in seeds or config.ablation.seeds:
            yield Trial(
                cell, seed, _varied(config, cell, seed), out / f"seed-{seed}", out / f"seed-{seed}" / cell.name
            )


def run(trial: Trial, config: RunConfig, say: Say) -> None:
    """Train and measure one trial, what is done already excepted.

    Where judges look at answers, the run's own reward prices those of all cells, so that they can be compared.
    With exact checks each cell's own does: its AUC says how well that reward tells right from wrong.
    """
    common = config.model_copy(update={"seed": trial.seed, "ablation": None})
    shared = [one for one in pipeline.stages(common, "evaluate") if one.name in _COMMON]
    given = run_stages(shared, common, trial.common, say)
    own = [one for one in pipeline.stages(trial.config) if one.name == trial.trained]
    given |= run_stages(own, trial.config, trial.folder, say, given=given)
    priced = trial.config.model_copy(update={"grpo": config.grpo}) if judged(config) else trial.config
    measured = [one for one in pipeline.stages(priced) if one.name in (f"evaluate-{trial.trained}", "judge")]
    run_stages(measured, priced, trial.folder, say, given=given)


_COMMON = ("tasks", "synthesize", "sft", "evaluate-base", "evaluate-sft")
"""Stages that all cells of a seed share."""


def _varied(config: RunConfig, cell: Cell, seed: int) -> RunConfig:
    whole = config.model_dump(mode="json") | {"seed": seed, "name": f"{config.name}-{cell.name}", "ablation": None}
    whole["grpo"] = merged(whole["grpo"], cell.grpo)
    whole["references"] = None if cell.references is None else merged(whole["references"] or {}, cell.references)
    if not cell.cold_start:
        whole |= {"sft": None, "synthesis": None}
    return validated(whole, f"ablation cell {cell.name}")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes`, sections merged key by key."""
    found = dict(base)
    for key, value in changes.items():
        section = found.get(key)
        found[key] = merged(section, value) if isinstance(section, dict) and isinstance(value, dict) else value
    return found
