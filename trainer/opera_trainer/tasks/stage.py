"""The stage `tasks`: reads or draws them, filters by length, splits, and writes files and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opera_client.errors import BadInput
from opera_trainer.artefacts import Task, write_json, write_rows
from opera_trainer.config import RunConfig
from opera_trainer.settings.tasks import TasksSettings
from opera_trainer.stage import Stage, Work, shape_of
from opera_trainer.tasks import data, world
from opera_trainer.tasks.card import DataCard, file_card, markdown, shared_ids
from opera_trainer.tasks.lengths import Length, lengths_of
from opera_trainer.tasks.records import records


def stage(config: RunConfig) -> Stage:
    return Stage("tasks", (), shape_of(tasks=config.tasks, seed=config.seed, model=config.model), _run)


def _run(work: Work) -> None:
    config = work.config
    files, card = collected(config.tasks, config.seed, config.model, lengths_of(config.model))
    for name, tasks in files.items():
        write_rows(work.folder / f"{name}.jsonl", tasks)
    write_json(work.folder / "card.json", card)
    (work.folder / "card.md").write_text(markdown(card), encoding="utf-8")
    work.say("  " + ", ".join(f"{len(tasks)} {name}" for name, tasks in files.items()))


def collected(
    settings: TasksSettings, seed: int, model: str, length: Length
) -> tuple[Mapping[str, Sequence[Task]], DataCard]:
    """Return the tasks of every file, and the card.

    Raises:
        BadInput: a row is broken (file, line and field are named), or nothing is left to train on.
    """
    if settings.source == world.SOURCE:
        every = [task for tasks in world.files(settings, seed).values() for task in tasks]
        found = data.Collected({task.id: task for task in every}, len(every))
    else:
        found = data.collect(records(settings), settings)
    lengths = {task.id: length(task) for task in found.tasks.values()}
    good = []
    for task in found.tasks.values():
        problem = _problem(settings, *lengths[task.id])
        if problem is None:
            good.append(task)
        else:
            found.dropped[problem] += 1
    if settings.source == world.SOURCE:
        kept = {task.id for task in good}
        drawn = world.files(settings, seed)
        files = {name: [task for task in tasks if task.id in kept] for name, tasks in drawn.items()}
    else:
        files = data.files(good, settings, seed)
    if not files["train"]:
        raise BadInput(
            f"tasks.source: {settings.source} leaves nothing to train on: {len(good)} of {found.read} rows are"
            f" good, the cold start takes {len(files['synthesis'])}; lower tasks.synthesis or give more data"
        )
    card = DataCard(
        source=settings.source,
        seed=seed,
        model=model,
        read=found.read,
        dropped=dict(found.dropped),
        unused=len(good) - sum(map(len, files.values())),
        shared=shared_ids(files),
        files={name: file_card(tasks, lengths) for name, tasks in files.items()},
    )
    return files, card


def _problem(settings: TasksSettings, prompt: int, reference: int) -> str | None:
    if settings.max_prompt_tokens is not None and prompt > settings.max_prompt_tokens:
        return "prompt_too_long"
    if settings.max_reference_tokens is not None and reference > settings.max_reference_tokens:
        return "reference_too_long"
    return "reference_too_short" if reference < settings.min_reference_tokens else None
