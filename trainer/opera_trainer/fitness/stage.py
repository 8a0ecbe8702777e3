"""The stage `fitness`: the policy that GRPO starts from answers a few tasks, and the reward is measured on them.

Where most answers fail the form that the reward asks for, or most groups say nothing, GRPO would train on nothing:
the run is refused with the way out. `groups.jsonl` is input for `opera-reward check`, which measures more.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opera_client import AsyncRewardClient
from opera_client.errors import BadInput
from opera_client.wire import ErrorDetail, ExpandItem, Group, Trajectory
from opera_service.check import measuring, report
from opera_service.check.findings import Finding, Thresholds, findings
from opera_service.check.samples import Sample
from opera_trainer import models
from opera_trainer.artefacts import Task, read_rows
from opera_trainer.config import RunConfig
from opera_trainer.seeds import seed_of
from opera_trainer.service import serving
from opera_trainer.settings.fitness import FitnessSettings
from opera_trainer.settings.grpo import GrpoSettings
from opera_trainer.stage import SCRATCH, Stage, Work, shape_of

SEED_STEP = -4
"""Tells these samples from those of the cold start and of the evaluation."""
TELLING = ("signal", "format")
"""Sections of the findings that can end a run: what a policy does that has not seen the reward yet."""


def stage(config: RunConfig) -> Stage:
    """Return the stage; it looks at the fine-tuned model, or at the base where there is no SFT."""
    return Stage(
        name="fitness",
        needs=("tasks", "sft") if config.sft else ("tasks",),
        shape=shape_of(fitness=config.fitness, grpo=config.grpo, model=config.model, seed=config.seed),
        run=_run,
    )


def _run(work: Work) -> None:
    config, grpo = work.config, work.config.grpo or GrpoSettings()
    settings = config.fitness or FitnessSettings()
    tasks = list(read_rows(work.inputs["tasks"] / "train.jsonl", Task))[: settings.groups]
    base = models.base(config.model)
    start = str(work.inputs["sft"] / "model") if "sft" in work.inputs else base
    scorer = {"base": base, "start": start}.get(grpo.scorer.model, grpo.scorer.model)
    found: list[Finding] | None = None
    with serving(config, start, own=start != base) as url:
        samples = asyncio.run(_samples(work, tasks, url, grpo))
        if scorer == start:
            found = asyncio.run(_findings(work, samples, url, grpo, settings))
    if found is None:
        with serving(config, scorer, own=scorer != base) as url:
            found = asyncio.run(_findings(work, samples, url, grpo, settings))
    about = {"Policy": start, "Scorer": scorer, "Reward": f"{grpo.reward.name}, {grpo.reward.preset}"}
    report.write_json(work.folder / "findings.json", about, found)
    report.write_page(work.folder / "check.html", about, found)
    _judge(work, found, refuse=settings.refuse)


async def _samples(work: Work, tasks: Sequence[Task], url: str, grpo: GrpoSettings) -> list[Sample]:
    """Return the policy's answers as groups; writes `groups.jsonl`, as `opera-reward check` reads it."""
    async with AsyncRewardClient(url, timeout=work.config.service.timeout_s) as client:
        answer = await client.expand(
            [
                ExpandItem(
                    prompt=task.prompt,
                    n=grpo.generations,
                    max_tokens=grpo.max_completion_length,
                    temperature=grpo.temperature,
                    top_p=grpo.top_p,
                    seed=seed_of(work.config.seed, task.id, SEED_STEP),
                )
                for task in tasks
            ]
        )
    samples: list[Sample] = []
    for task, item in zip(tasks, answer.items, strict=True):
        if isinstance(item, ErrorDetail) or item.status != "ok":
            continue
        said = [one for one in item.candidates if one.token_ids]
        if len(said) < 2:
            continue
        members = [
            Trajectory(id=str(at), response=one.text, response_token_ids=one.token_ids)
            for at, one in enumerate(said)
        ]
        group = Group(
            group_id=task.id, task=task.kind, prompt=task.prompt, reference=task.reference, trajectories=members
        )
        samples.append(Sample(group, [], None, cut_off=[one.finish_reason == "length" for one in said]))
    if not samples:
        raise BadInput("fitness: the policy answered none of the training tasks; is the model one that chats?")
    with (work.folder / "groups.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(_line(one), ensure_ascii=False) + "\n" for one in samples)
    return samples


def _line(sample: Sample) -> dict[str, Any]:
    """Return a group as a line of `opera-reward check`: how each response's sampling ended stands in it."""
    line = sample.group.model_dump(mode="json", exclude_none=True)
    for member, cut in zip(line["trajectories"], sample.cut_off, strict=True):
        member["finish_reason"] = "length" if cut else "stop"
    return line


async def _findings(
    work: Work, samples: Sequence[Sample], url: str, grpo: GrpoSettings, settings: FitnessSettings
) -> list[Finding]:
    reward = grpo.reward
    journal: Path = work.folder / SCRATCH / "journal.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    async with AsyncRewardClient(url, timeout=work.config.service.timeout_s) as client:
        measured = await measuring.measure(
            client,
            samples,
            {"reward": reward.name, "preset": reward.preset, "config": reward.config, "detail": "reward"},
            attacked=settings.attacked,
            journal=measuring.Journal(journal),
        )
    return findings(measured, Thresholds())


def _judge(work: Work, found: Sequence[Finding], *, refuse: bool) -> None:
    """Say what is not well, and raise BadInput where nothing could be learnt."""
    for one in found:
        if one.level != "ok":
            work.say(f"  {one.level}: {one.name}: {report.number(one.value)}; {one.advice}")
    fatal = [one for one in found if one.level == "unfit" and one.section in TELLING]
    if not fatal:
        work.say("  fit to train on" if report.verdict(found) == "ok" else "  no reason to refuse")
    elif refuse:
        reasons = "; ".join(f"{one.name}: {report.number(one.value)}: {one.advice}" for one in fatal)
        raise BadInput(
            f"fitness: GRPO would learn nothing from this: {reasons}. See {work.folder / 'check.html'}."
            " `--set fitness.refuse=false` trains all the same"
        )
