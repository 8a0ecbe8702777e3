"""The stage `fitness`: the policy that GRPO starts from answers a few tasks, and the reward is measured on them.

Where most answers fail the form that the reward asks for, or most groups say nothing, GRPO would train on nothing:
the run is refused with the way out. `groups.jsonl` is input for `opera-reward check`, which measures more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from opera_client import AsyncRewardClient
from opera_client.errors import BadInput
from opera_client.wire import ErrorDetail, ExpandItem, Group, Trajectory
from opera_service.check import measuring, report
from opera_service.check.findings import Finding, Thresholds, findings
from opera_service.check.samples import Sample
from opera_trainer import models
from opera_trainer.artefacts import Task, read_rows, write_rows
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
        groups = asyncio.run(_groups(work, tasks, url, grpo))
        if scorer == start:
            found = asyncio.run(_findings(work, groups, url, grpo, settings))
    if found is None:
        with serving(config, scorer, own=scorer != base) as url:
            found = asyncio.run(_findings(work, groups, url, grpo, settings))
    about = {"Policy": start, "Scorer": scorer, "Reward": f"{grpo.reward.name}, {grpo.reward.preset}"}
    report.write_json(work.folder / "findings.json", about, found)
    report.write_page(work.folder / "check.html", about, found)
    _judge(work, found, refuse=settings.refuse)


async def _groups(work: Work, tasks: Sequence[Task], url: str, grpo: GrpoSettings) -> list[Group]:
    """Return the policy's answers as groups; writes `groups.jsonl`."""
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
    groups = []
    for task, item in zip(tasks, answer.items, strict=True):
        if isinstance(item, ErrorDetail) or item.status != "ok":
            continue
        members = [
            Trajectory(id=str(at), response=one.text, response_token_ids=one.token_ids)
            for at, one in enumerate(item.candidates)
            if one.token_ids
        ]
        if len(members) > 1:
            groups.append(
                Group(
                    group_id=task.id, task=task.kind, prompt=task.prompt, reference=task.reference,
                    trajectories=members,
                )
            )  # fmt: skip
    if not groups:
        raise BadInput("fitness: the policy answered none of the training tasks; is the model one that chats?")
    write_rows(work.folder / "groups.jsonl", groups)
    return groups


async def _findings(
    work: Work, groups: Sequence[Group], url: str, grpo: GrpoSettings, settings: FitnessSettings
) -> list[Finding]:
    reward = grpo.reward
    journal: Path = work.folder / SCRATCH / "journal.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    async with AsyncRewardClient(url, timeout=work.config.service.timeout_s) as client:
        measured = await measuring.measure(
            client,
            [Sample(group, [], None) for group in groups],
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
