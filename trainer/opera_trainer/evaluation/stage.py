"""The stages `evaluate-base`, `evaluate-sft`, `evaluate-grpo`: one model on held-out tasks.

The model answers first, then the run's scorer prices what it said: never two models on a device at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from opera_client import AsyncRewardClient
from opera_client.errors import BadInput
from opera_trainer.artefacts import Evaluation, Rollout, Task, read_rows, write_json, write_rows
from opera_trainer.batches import Batches
from opera_trainer.config import RunConfig
from opera_trainer.evaluation.metrics import measure
from opera_trainer.evaluation.pricing import price
from opera_trainer.evaluation.responses import Responses, respond
from opera_trainer.service import serving
from opera_trainer.settings.grpo import RewardSettings
from opera_trainer.stage import SCRATCH, Stage, Work, shape_of

TIERS = ("test", "harder")
"""Files of held-out tasks, each of a tier of its own."""
SHOWN = ("accuracy_sampled", "accuracy_greedy", "reference_perplexity", "reward_auc")


def stage(config: RunConfig, of: str) -> Stage:
    """Return the stage that measures the model of stage `of`, or the `base`."""
    scorer = config.grpo.scorer.model if config.grpo else None
    return Stage(
        name=f"evaluate-{of}",
        needs=("tasks",) if of == "base" else ("tasks", of),
        shape=shape_of(
            evaluation=config.evaluation,
            seed=config.seed,
            model=config.model,
            reward=_reward(config),
            scorer="random" if scorer == "random" else "base",
        ),
        run=lambda work: _run(work, of),
    )


def _reward(config: RunConfig) -> RewardSettings:
    return config.grpo.reward if config.grpo else RewardSettings()


def _run(work: Work, of: str) -> None:
    from opera_trainer import models

    config = work.config
    tasks = [task for name in TIERS for task in _tasks(work, name)]
    if not tasks:
        raise BadInput("evaluate: there are no held-out tasks; raise tasks.test or give more data")
    base = models.base(config.model)
    model = base if of == "base" else str(work.inputs[of] / "model")
    scorer, random = base, config.grpo is not None and config.grpo.scorer.model == "random"
    if random:
        scorer = str(models.untrained(base, config.seed, work.folder / SCRATCH / "random"))
    # `service.url` serves the base; once a policy was pushed to it, nobody knows what it serves.
    pushed = config.grpo is not None and config.grpo.scorer.follow != "frozen"
    rollouts = None
    with serving(config, model, own=of != "base" or pushed) as url:
        answered = asyncio.run(_answered(work, tasks, url))
        if scorer == model:
            rollouts = asyncio.run(_priced(work, answered, url))
    if rollouts is None:
        with serving(config, scorer, own=random or pushed) as url:
            rollouts = asyncio.run(_priced(work, answered, url))
    write_rows(work.folder / "rollouts.jsonl", rollouts)
    evaluation = Evaluation(
        stage=of,
        model=config.model if of == "base" else of,
        metrics=measure(rollouts, config.evaluation.resamples),
    )
    write_json(work.folder / "evaluation.json", evaluation)
    for tier, metrics in evaluation.metrics.items():
        work.say(
            f"  {tier}: " + ", ".join(f"{name} {metrics[name].value:.3f}" for name in SHOWN if name in metrics)
        )


def _tasks(work: Work, name: str) -> list[Task]:
    path: Path = work.inputs["tasks"] / f"{name}.jsonl"
    return list(read_rows(path, Task)) if path.exists() else []


async def _answered(work: Work, tasks: Sequence[Task], url: str) -> list[tuple[Task, Responses]]:
    settings, seed = work.config.evaluation, work.config.seed
    async with AsyncRewardClient(
        url, timeout=work.config.service.timeout_s, max_items=settings.batch, concurrency=settings.concurrency + 1
    ) as client:
        model = await client.model()
        batches = Batches(
            Responses,
            lambda task: respond(task, settings, seed),
            path=work.folder / SCRATCH / "responses.jsonl",
            batch=settings.batch,
            concurrency=settings.concurrency,
            progress=lambda done, every: work.say(f"  answered {done} of {every}"),
        )
        run = {"revision": model.revision, "seed": seed}
        results, _ = await batches.run(client, tasks, run, model.weight_version)
    answered = [(task, one) for task, one in zip(tasks, results, strict=True) if isinstance(one, Responses)]
    if len(answered) < len(tasks):
        work.say(f"  {len(tasks) - len(answered)} tasks were refused and are left out")
    return answered


async def _priced(work: Work, answered: Sequence[tuple[Task, Responses]], url: str) -> list[Rollout]:
    settings = work.config.evaluation
    async with AsyncRewardClient(
        url, timeout=work.config.service.timeout_s, max_items=settings.batch, concurrency=settings.concurrency + 1
    ) as client:
        return await price(client, answered, _reward(work.config))
