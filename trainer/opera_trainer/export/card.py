"""The model card: what was trained on what, and what was measured, read from the run's own files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from opera_trainer.artefacts import Evaluation, read_json
from opera_trainer.config import trained
from opera_trainer.stage import Work

PACKAGES = ("opera-reward", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "vllm")

PAGE = """---
base_model: {model}
library_name: transformers
pipeline_tag: text-generation
tags: [opera-reward, grpo]
---
# {name}

Made from {base} by `opera-reward train`: {steps}.
The reward was {reward}, read off {scorer}; it saw no exact check of any answer.
The licence is that of the base model and of the data.

    opera-reward serve --model PATH_OF_THIS_FOLDER

## Measured

Held-out tasks, means with 95 % confidence intervals.

{table}

## Data

Tasks from `{source}`: {counts}.

## Weights

{weights}

## How it was made

Versions: {versions}.

```yaml
{config}```
"""


def card(work: Work, folder: Path) -> str:
    """Return the card of the weights in `folder`."""
    config = work.config
    made = trained(config)
    grpo = config.grpo if "grpo" in made else None
    words = {
        "sft": "supervised fine-tuning on traces of a perplexity-guided search",
        "references": "supervised fine-tuning on the tasks' references, a control",
        "grpo": "GRPO",
    }
    scorers = {"base": "the base model", "start": "the model before GRPO", "random": "an untrained network"}
    scorer = "no model: nothing was rewarded"
    if grpo is not None:
        scorer = scorers.get(grpo.scorer.model, f"`{grpo.scorer.model}`")
        scorer += {
            "frozen": ", frozen",
            "synced": ", then the policy itself",
            "ema": ", then a mean of the policy",
        }[grpo.scorer.follow]
    evaluations = {
        name: read_json(work.inputs[f"evaluate-{name}"] / "evaluation.json", Evaluation)
        for name in ("base", *made)
    }
    return PAGE.format(
        model="opera-reward-embedded" if config.model == "demo" else config.model,
        base="the embedded model of opera-reward" if config.model == "demo" else f"`{config.model}`",
        name=config.name,
        steps=", then ".join(words[name] for name in made),
        reward=f"`{grpo.reward.name}`, preset `{grpo.reward.preset}`" if grpo else "none",
        scorer=scorer,
        table=table(evaluations),
        source=config.tasks.source,
        counts=", ".join(f"{_lines(path)} {path.stem}" for path in sorted(work.inputs["tasks"].glob("*.jsonl"))),
        weights="\n".join(
            f"* `{path.name}`: sha256 `{_digest(path)}`" for path in sorted(folder.glob("*.safetensors"))
        ),
        versions=", ".join(f"{name} {found}" for name, found in versions().items()),
        config=yaml.safe_dump(config.model_dump(mode="json", exclude={"ablation"}), sort_keys=False),
    )


def table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return one column a stage and one row a tier and metric."""
    names = list(evaluations)
    rows = dict.fromkeys(
        (tier, metric) for one in evaluations.values() for tier, found in one.metrics.items() for metric in found
    )
    lines = [f"| tier | metric | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for tier, metric in rows:
        cells = []
        for name in names:
            estimate = evaluations[name].metrics.get(tier, {}).get(metric)
            cells.append(f"{estimate.value:.3f} ({estimate.low:.3f} – {estimate.high:.3f})" if estimate else "–")
        lines.append(f"| {tier} | {metric} | {' | '.join(cells)} |")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Return the installed versions of what trains and serves."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
