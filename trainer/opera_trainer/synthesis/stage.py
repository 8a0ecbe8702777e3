"""The stage `synthesize`: traces for SFT, every candidate's score, statistics, and the criteria compared.

Everything passes through journals under scratch/, so that an interrupted run goes on; the files are written at the
end, in the order of the tasks, and say nothing of time. That is in throughput.json.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel

from opera_client import AsyncRewardClient
from opera_client.errors import BadInput
from opera_client.wire import ErrorDetail, ServedModel
from opera_trainer.artefacts import Row, Task, Trace, read_rows, write_json, write_rows
from opera_trainer.batches import Batches
from opera_trainer.config import RunConfig
from opera_trainer.lockstep import Running
from opera_trainer.models import base
from opera_trainer.service import serving
from opera_trainer.settings.synthesis import Criterion, SynthesisSettings
from opera_trainer.stage import Stage, Work, shape_of
from opera_trainer.synthesis.sampling import Sampled, sample
from opera_trainer.synthesis.search import Found, Step, search
from opera_trainer.synthesis.statistics import Comparison, Statistics, Throughput, plain, sift

R = TypeVar("R", bound=BaseModel)


class Failure(Row):
    """A task without a trace."""

    task_id: str
    error: ErrorDetail


def stage(config: RunConfig) -> Stage:
    return Stage(
        "synthesize", ("tasks",), shape_of(synthesis=config.synthesis, seed=config.seed, model=config.model), _run
    )


def _run(work: Work) -> None:
    tasks = list(read_rows(work.inputs["tasks"] / "synthesis.jsonl", Task))
    if not tasks:
        raise BadInput("synthesize: there is no task to think about; raise tasks.synthesis")
    with serving(work.config, base(work.config.model)) as url:
        asyncio.run(_synthesize(work, tasks, url))


async def _synthesize(work: Work, tasks: Sequence[Task], url: str) -> None:
    settings = work.config.synthesis or SynthesisSettings()
    async with AsyncRewardClient(
        url, timeout=work.config.service.timeout_s, max_items=settings.batch, concurrency=settings.concurrency + 1
    ) as client:
        job = _Job(work, client, await client.model(), settings)
        results, seconds = await job.searches(settings.by, tasks)
        kept, statistics = sift(tasks, results, settings.filters, settings.by)
        _write(work.folder, tasks, results, seconds, statistics)
        write_rows(work.folder / "traces.jsonl", kept)
        if settings.parquet:
            for name, kind in (("traces", Trace), ("candidates", Step)):
                _parquet(work.folder / f"{name}.jsonl", kind)
        work.say(_said(statistics))
        write_json(work.folder / "comparison.json", await _compared(job, tasks[: settings.compare], results))


async def _compared(job: _Job, tasks: Sequence[Task], results: Sequence[Found | ErrorDetail]) -> Comparison:
    """Put the other criteria and plain sampling beside what was found for the first tasks."""
    settings, criteria, alone = job.settings, [], None
    if tasks:
        for by in get_args(Criterion):
            found = results[: len(tasks)] if by == settings.by else (await job.searches(by, tasks))[0]
            criteria.append(sift(tasks, found, settings.filters, by)[1])
            job.work.say(_said(criteria[-1]))
        alone = plain(tasks, await job.samples(tasks), settings.temperature)
        if alone.right is not None:
            job.work.say(f"  plain sampling: {alone.right.value:.0%} of {alone.responses} right")
    return Comparison(tasks=len(tasks), criteria=criteria, plain=alone)


@dataclass(frozen=True)
class _Job:
    """A folder, a service and what shapes the answers."""

    work: Work
    client: AsyncRewardClient
    model: ServedModel
    settings: SynthesisSettings

    async def searches(self, by: Criterion, tasks: Sequence[Task]) -> tuple[list[Found | ErrorDetail], float]:
        seed = self.work.config.seed

        def look(found: Sequence[Found | ErrorDetail]) -> None:
            if by == self.settings.by:
                self._hopeful(found, tasks)

        return await self._all(Found, by, tasks, lambda task: search(task, self.settings, seed, by), look)

    def _hopeful(self, found: Sequence[Found | ErrorDetail], tasks: Sequence[Task]) -> None:
        """Raise BadInput when so many tasks have not left one trace that the rest will not, either."""
        settings = self.settings
        if settings.give_up_after is None or len(found) < min(settings.give_up_after, len(tasks)):
            return
        kept, statistics = sift(tasks[: len(found)], found, settings.filters, settings.by)
        if not kept:
            unfit = ", ".join(f"{name} {count}" for name, count in sorted(statistics.unfit.items()))
            raise BadInput(
                f"synthesize: no trace of {len(found)} tasks is kept: {_said(statistics).strip()}; candidates that"
                f" could not be chosen: {unfit or 'none'}. Raise synthesis.step_tokens or answer_tokens, set"
                " synthesis.paragraphs=loose, relax synthesis.filters, or set sft and synthesis to null and"
                " grpo.reward.config to {think: {mode: none}}"
            )

    async def samples(self, tasks: Sequence[Task]) -> list[Sampled | ErrorDetail]:
        seed = self.work.config.seed
        return (await self._all(Sampled, "plain", tasks, lambda task: sample(task, self.settings, seed)))[0]

    async def _all(
        self,
        kind: type[R],
        name: str,
        tasks: Sequence[Task],
        begin: Callable[[Task], Running[R]],
        look: Callable[[Sequence[R | ErrorDetail]], None] = lambda _: None,
    ) -> tuple[list[R | ErrorDetail], float]:
        run = {
            "search": name,
            "seed": self.work.config.seed,
            "model": self.model.model_dump(mode="json", include={"name", "revision", "weight_version", "dtype"}),
        }
        batches = Batches(
            kind,
            begin,
            path=self.work.folder / "scratch" / f"{name}-{len(tasks)}.jsonl",
            batch=self.settings.batch,
            concurrency=self.settings.concurrency,
            progress=lambda done, every: self.work.say(f"  {name}: {done} of {every}"),
            look=look,
        )
        return await batches.run(self.client, tasks, run, self.model.weight_version)


def _write(
    folder: Path,
    tasks: Sequence[Task],
    results: Sequence[Found | ErrorDetail],
    seconds: float,
    statistics: Statistics,
) -> None:
    found = [result for result in results if isinstance(result, Found)]
    write_rows(folder / "candidates.jsonl", (step for one in found for step in one.steps))
    write_rows(folder / "failures.jsonl", _failures(tasks, results))
    write_json(folder / "statistics.json", statistics)
    per_second = len(found) / seconds if seconds else 0.0
    kept_per_hour = 3600 * statistics.kept / seconds if seconds else 0.0
    write_json(
        folder / "throughput.json",
        Throughput(
            seconds=round(seconds, 2),
            traces=len(found),
            kept=statistics.kept,
            sampled_tokens=statistics.sampled_tokens,
            traces_per_second=round(per_second, 3),
            kept_per_hour=round(kept_per_hour, 1),
            hours_for_20000=round(20_000 / kept_per_hour, 3) if kept_per_hour else 0.0,
        ),
    )


def _failures(tasks: Sequence[Task], results: Sequence[Found | ErrorDetail]) -> Iterable[Failure]:
    for task, result in zip(tasks, results, strict=True):
        if isinstance(result, ErrorDetail):
            yield Failure(task_id=task.id, error=result)


def _said(one: Statistics) -> str:
    right = "" if one.right is None else f", {one.right.value:.0%} of them right"
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(one.dropped.items()))
    return (
        f"  by {one.criterion}: {one.kept} of {one.tasks} kept{right}, {one.reflective:.0%} with a reflection"
        + (f"; dropped: {why}" if why else "")
    )


def _parquet(jsonl: Path, kind: type[Row]) -> None:
    """Write the rows of a JSONL file as Parquet beside it."""
    from pyarrow import Table
    from pyarrow.parquet import write_table

    path, partial = jsonl.with_suffix(".parquet"), jsonl.with_suffix(".parquet.part")
    write_table(Table.from_pylist([row.model_dump(mode="json") for row in read_rows(jsonl, kind)]), partial)
    partial.replace(path)
