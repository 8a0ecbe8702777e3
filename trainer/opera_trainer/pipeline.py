"""Which stages a run has, in order. Stages of other rooms are loaded by name, so that `--help` imports no torch.

A room's stage is `stage(config) -> Stage` in its `stage.py`; evaluation's is `stage(config, of=…)`: whose model?
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, cast

from opera_client.errors import BadInput
from opera_trainer.config import RunConfig, judged, trained
from opera_trainer.ranks import world_size
from opera_trainer.stage import Stage

Target = Literal["synthesize", "sft", "grpo", "evaluate", "export", "report"]


def stages(config: RunConfig, until: Target = "report") -> list[Stage]:
    """Return the stages of a run up to `until`, in order.

    `evaluate` ends with the last evaluation and `report` is the whole run.

    Raises:
        BadInput: the run has no stage `until`.
    """
    if until in ("synthesize", "sft", "grpo") and getattr(config, _SECTION.get(until, until)) is None:
        raise BadInput(f"the configuration leaves {until} out: its section {_SECTION.get(until, until)} is null")
    if config.sft is not None and config.synthesis is None:
        raise BadInput("sft learns from the cold start's traces: give the section synthesis, or make sft null")
    found = [_build("tasks", config)]
    if config.synthesis is not None:
        found.append(_build("synthesis", config))
    if until == "synthesize":
        return found
    measured = until in ("evaluate", "export", "report")
    if measured:
        found.append(_build("evaluation", config, of="base"))
    for name in trained(config):
        if name == "grpo" and _looked_at(config):
            found.append(_build("fitness", config))
        found.append(_build("sft", config, of="references") if name == "references" else _build(name, config))
        if measured:
            found.append(_build("evaluation", config, of=name))
        if name == until:
            return found
    if until in ("export", "report"):
        found.append(_build("export", config))
    if until == "report":
        if judged(config):
            found.append(_build("judges", config))
        found.append(_build("report", config))
    return found


def _looked_at(config: RunConfig) -> bool:
    """Tell whether GRPO's start is looked at first: not as one of several processes, which start no service.

    A random scorer is a control that is meant to teach nothing.
    """
    random = config.grpo is not None and config.grpo.scorer.model == "random"
    return config.fitness is not None and not random and world_size() == 1


_SECTION = {"synthesize": "synthesis"}


def _build(room: str, config: RunConfig, **more: Any) -> Stage:
    build = cast("Callable[..., Stage]", import_module(f"opera_trainer.{room}.stage").stage)
    return build(config, **more)
