"""All that a run has left in its folder, as one object: report.json. Knows every stage's files; draws nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from opera_trainer.ablation.table import Outcome
from opera_trainer.artefacts import Estimate, Evaluation, LogEntry, Rollout, Row, Shown, read_json, read_rows
from opera_trainer.config import RunConfig, trained
from opera_trainer.evaluation.metrics import means
from opera_trainer.export.card import versions
from opera_trainer.grpo.alarms import alarms
from opera_trainer.intervals import mean
from opera_trainer.judges.findings import Judged
from opera_trainer.stage import finished
from opera_trainer.synthesis.statistics import Comparison, Statistics, Throughput
from opera_trainer.tasks.card import DataCard

STAGES = ("base", "sft", "references", "grpo")
SAMPLES = {"standard": 4, "harder": 2}
"""Tasks shown by tier: the first ones of the files, not chosen."""
RESAMPLES = 2000


class Gain(Row):
    """What one stage added to a metric on the same tasks, with the paired interval."""

    tier: str
    metric: str
    start: str
    end: str
    change: Estimate


class Sample(Row):
    """One held-out task and what every stage's model answers, first sample at temperature 1."""

    tier: str
    responses: dict[str, Rollout]
    """By stage."""


class FitnessFinding(Row):
    """One number of `opera-reward check`, measured before GRPO began; what else a check says is not read here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    section: str
    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: str = "ok"
    advice: str = ""


class Fitness(Row):
    """What was found before GRPO began."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    verdict: str
    about: dict[str, str]
    findings: list[FitnessFinding]
    limit: str


class Ablation(Row):
    """What `train ablate` measured, and what it has not."""

    outcomes: list[Outcome]
    missing: list[str]


class Report(Row):
    """One run."""

    name: str
    seed: int
    model: str
    source: str
    seconds: dict[str, float]
    """Stage → seconds of the run that finished it."""
    data: DataCard
    synthesis: Statistics | None = None
    throughput: Throughput | None = None
    comparison: Comparison | None = None
    evaluations: list[Evaluation]
    gains: list[Gain]
    logs: dict[str, list[LogEntry]]
    """By stage that trains."""
    samples: list[Sample]
    fitness: Fitness | None = None
    judged: Judged | None = None
    alarms: dict[str, str] = Field(default_factory=dict, description="Alarm → sentence, at the end of GRPO.")
    shown: list[Shown] = Field(default_factory=list, description="Groups as they were sampled in GRPO, by step.")
    ablation: Ablation | None = None
    notes: dict[str, str]
    """Ablation cell → what it is."""
    not_run: list[str]
    config: dict[str, Any]
    versions: dict[str, str]


def gather(config: RunConfig, folders: Mapping[str, Path], run: Path) -> Report:
    """Read what there is.

    Args:
        config: of the run.
        folders: of its finished stages, by name.
        run: the folder of the run, where an ablation writes its table.

    Raises:
        BadInput: a file of a stage cannot be read.
    """
    measured = [name for name in STAGES if f"evaluate-{name}" in folders]
    rollouts = {
        name: list(read_rows(folders[f"evaluate-{name}"] / "rollouts.jsonl", Rollout)) for name in measured
    }
    found: dict[str, Any] = {}
    if "synthesize" in folders:
        folder = folders["synthesize"]
        found = {
            "synthesis": read_json(folder / "statistics.json", Statistics),
            "throughput": read_json(folder / "throughput.json", Throughput),
            "comparison": read_json(folder / "comparison.json", Comparison),
        }
    table = run / "ablation.json"
    if table.exists():
        found["ablation"] = read_json(table, Ablation)
    fitness = run / "fitness" / "findings.json"
    if fitness.exists() and config.fitness is not None:
        found["fitness"] = read_json(fitness, Fitness)
    if "judge" in folders:
        found["judged"] = read_json(folders["judge"] / "judged.json", Judged)
    logs = {
        name: list(read_rows(folders[name] / "log.jsonl", LogEntry)) for name in trained(config) if name in folders
    }
    if "grpo" in logs:
        found["alarms"] = alarms(logs["grpo"])
        found["shown"] = _shown(folders["grpo"] / "samples.jsonl")
    report = Report(
        name=config.name,
        seed=config.seed,
        model=config.model,
        source=config.tasks.source,
        seconds=dict(_seconds(folders)),
        data=read_json(folders["tasks"] / "card.json", DataCard),
        evaluations=[read_json(folders[f"evaluate-{name}"] / "evaluation.json", Evaluation) for name in measured],
        gains=list(_gains(rollouts)),
        logs=logs,
        samples=list(_samples(rollouts)),
        notes={cell.name: cell.note for cell in config.ablation.cells} if config.ablation else {},
        not_run=[],
        config=config.model_dump(mode="json"),
        versions=versions(),
        **found,
    )
    return report.model_copy(update={"not_run": list(_not_run(report, config))})


def _shown(path: Path) -> list[Shown]:
    """Return a training's groups by step; a resumed one has written some steps twice."""
    if not path.exists():
        return []
    steps = {one.step: one for one in read_rows(path, Shown)}
    return [steps[step] for step in sorted(steps)]


def _seconds(folders: Mapping[str, Path]) -> Iterator[tuple[str, float]]:
    for name, folder in folders.items():
        done = finished(folder)
        if done is not None:
            yield name, round(done.seconds, 1)


def _gains(rollouts: Mapping[str, Sequence[Rollout]]) -> Iterator[Gain]:
    """Compare each stage with the one before, and the last with the first."""
    names = list(rollouts)
    pairs = list(pairwise(names))
    if len(names) > 2:
        pairs.append((names[0], names[-1]))
    tiers = dict.fromkeys(one.tier for some in rollouts.values() for one in some)
    for tier in tiers:
        for mode, metric in (("sampled", "accuracy_sampled"), ("greedy", "accuracy_greedy")):
            rights = {name: _rights(rollouts[name], tier, mode) for name in names}
            for start, end in pairs:
                both = rights[start].keys() & rights[end].keys()
                change = mean(
                    [rights[end][task] - rights[start][task] for task in sorted(both)], RESAMPLES, kind="change"
                )
                if change is not None:
                    yield Gain(tier=tier, metric=metric, start=start, end=end, change=change)


def _rights(rollouts: Sequence[Rollout], tier: str, mode: str) -> dict[str, float]:
    """Return the share of right responses by task."""
    groups: dict[str, list[Rollout]] = {}
    for one in rollouts:
        if one.tier == tier and one.mode == mode and one.right is not None:
            groups.setdefault(one.task_id, []).append(one)
    return dict(zip(groups, means(groups.values(), lambda one: float(bool(one.right))), strict=True))


def _samples(rollouts: Mapping[str, Sequence[Rollout]]) -> Iterator[Sample]:
    first = {
        name: {one.task_id: one for one in some if one.mode == "sampled" and one.sample == 0}
        for name, some in rollouts.items()
    }
    if not first:
        return
    shown = dict.fromkeys(SAMPLES, 0)
    for task, one in next(iter(first.values())).items():
        if shown.get(one.tier, 0) < SAMPLES.get(one.tier, 0):
            shown[one.tier] += 1
            yield Sample(
                tier=one.tier, responses={name: some[task] for name, some in first.items() if task in some}
            )


def _not_run(report: Report, config: RunConfig) -> Iterator[str]:
    """Say what a reader could think was done and was not."""
    for section, what in (("synthesis", "The cold start"), ("sft", "SFT"), ("grpo", "GRPO")):
        if getattr(config, section) is None:
            yield f"{what}: the configuration leaves it out."
    measured = {one.stage for one in report.evaluations}
    for name in STAGES:
        if name not in measured and name in ("base", *trained(config)):
            yield f"Measuring {name} on held-out tasks."
    but = "" if report.ablation is None else " but the ablation"
    yield f"Other seeds: everything here{but} is seed {report.seed}, intervals are over tasks, not over trainings."
    if report.ablation is None:
        yield f"Ablations: `opera-reward train ablate {report.name}` has not written its table into this run."
    elif report.ablation.missing:
        yield f"Ablations: not run are {_together(report.ablation.missing)}."
    if report.comparison is not None and not report.comparison.tasks:
        yield "The comparison of the cold start's criteria: synthesis.compare is 0."
    if report.synthesis is not None and report.synthesis.failed:
        yield f"{report.synthesis.failed} tasks of the cold start: the service refused them, see failures.jsonl."
    checked = any(file.checked for file in report.data.files.values())
    unchecked = (
        [] if not checked else [name for name, file in report.data.files.items() if file.checked < file.count]
    )
    if unchecked:
        yield f"Accuracy: tasks of {', '.join(unchecked)} have no exact check: no answer is right or wrong."
    if report.judged is not None:
        yield from report.judged.notes
        if not any(one.judge != "people" for one in report.judged.preferences):
            yield "A language model as judge: judging.llm is null."
        if not any(one.judge == "people" for one in report.judged.preferences):
            yield "People: no file of votes from judge/blind.html is in the run's folder votes/."
    if report.fitness is not None and not any(one.section == "farming" for one in report.fitness.findings):
        yield "Attacks on the reward: fitness.attacked is 0; `opera-reward check fitness/groups.jsonl` makes them."


def _together(missing: Sequence[str]) -> str:
    """Return `paper at seed 0, 1; synced at seed 2` for trials named one by one."""
    cells: dict[str, list[str]] = {}
    for trial in missing:
        cell, _, seed = trial.partition(" at seed ")
        cells.setdefault(cell, []).append(seed)
    return "; ".join(f"{cell} at seed {', '.join(seeds)}" for cell, seeds in cells.items())
