"""One run as a YAML file: validated, unknown keys refused, every stage a section.

A section that is null leaves its stage out. Knows the settings of all stages, none of their work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from opera_client.errors import BadInput
from opera_client.wire import problem_of
from opera_trainer.settings.ablation import AblationSettings
from opera_trainer.settings.base import Settings
from opera_trainer.settings.evaluation import EvaluationSettings
from opera_trainer.settings.fitness import FitnessSettings
from opera_trainer.settings.grpo import GrpoSettings
from opera_trainer.settings.judging import JudgingSettings
from opera_trainer.settings.sft import ReferencesSettings, SftSettings
from opera_trainer.settings.synthesis import SynthesisSettings
from opera_trainer.settings.tasks import TasksSettings


class ServiceSettings(Settings):
    """The reward service of the run."""

    url: str | None = Field(None, description="A service that runs already; by default each stage starts its own.")
    engine: str = Field("torch", description="`--engine` of the service that is started.")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Further flags of `opera-reward serve`, e.g. `max_batch_tokens: 8192`."
    )
    timeout_s: float = Field(300.0, gt=0, description="Seconds for one batch with all retries.")


class RunConfig(Settings):
    """Everything that shapes a run; where it is written is the command's business."""

    name: str = Field(min_length=1, description="Names the run in logs and on the model card.")
    seed: int = Field(0, ge=0)
    model: str = Field(
        "demo",
        description="Hugging Face id, folder or GGUF file of the base model; `demo`: the embedded one; `smollm2`: "
        "what `opera-reward fetch-model smollm2` got.",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; its own choice by default.")
    service: ServiceSettings = ServiceSettings()
    tasks: TasksSettings = TasksSettings()
    synthesis: SynthesisSettings | None = SynthesisSettings()
    sft: SftSettings | None = SftSettings()
    fitness: FitnessSettings | None = FitnessSettings()
    grpo: GrpoSettings | None = GrpoSettings()
    references: ReferencesSettings | None = Field(
        None,
        description="A control in place of GRPO: fine-tuning on the training tasks' references. `grpo` then only "
        "says by which reward answers are measured.",
    )
    evaluation: EvaluationSettings = EvaluationSettings()
    judging: JudgingSettings | None = JudgingSettings()
    ablation: AblationSettings | None = None


def trained(config: RunConfig) -> list[str]:
    """Return the stages that train, in order: `sft`, then `references` or `grpo`."""
    last = "references" if config.references is not None else "grpo"
    return [name for name in ("sft", last) if getattr(config, name) is not None]


def judged(config: RunConfig) -> bool:
    """Tell whether judges look at held-out answers: not in the built-in world, which has exact checks."""
    return config.judging is not None and config.tasks.source != "world"


def packaged(name: str) -> Path:
    """Return the path of a configuration that comes with the package, e.g. `demo`."""
    return Path(str(files("opera_trainer").joinpath("configs", f"{name}.yaml")))


def load(path: Path, changes: Sequence[str] = ()) -> RunConfig:
    """Read a run's YAML file.

    Args:
        path: the file.
        changes: `section.key=value` overrides; values are YAML.

    Raises:
        BadInput: it cannot be read, is no YAML, or a key is unknown or out of range; the message names the key.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no keys; see the packaged configs/demo.yaml for an example")
    for change in changes:
        _change(found, change)
    return validated(found, str(path))


def validated(found: Mapping[str, Any], origin: str) -> RunConfig:
    """Return a configuration from plain values. Raises BadInput naming `origin` and the key."""
    try:
        return RunConfig.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BadInput(f"{origin}: {where}: {problem_of(first, RunConfig)}") from None


def _change(found: dict[str, Any], change: str) -> None:
    path, equals, value = change.partition("=")
    if not equals or not path:
        raise BadInput(f"--set {change}: say section.key=value")
    *sections, key = path.split(".")
    place = found
    for section in sections:
        inner = place.get(section)
        place[section] = place = dict(inner) if isinstance(inner, dict) else {}
    try:
        place[key] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise BadInput(f"--set {change}: {value} is no YAML value") from None
