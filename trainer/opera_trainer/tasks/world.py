"""Tasks of the demo's world: seeded, split by hash of the calculation, with a harder tier of unseen lengths.

Knows the world's generator; nothing of files or models.
"""

from __future__ import annotations

import re

from opera_client.wire import Message
from opera_demo.world import Split, Tier, tasks
from opera_demo.world import Task as Story
from opera_trainer.artefacts import Task
from opera_trainer.settings.tasks import TasksSettings

SOURCE = "world"


def task_of(story: Story, tier: Tier) -> Task:
    return Task(
        id=f"{SOURCE}/{story.key}",
        prompt=[Message(role="user", content=story.question)],
        reference=story.reference,
        tier=tier,
        check="exact",
    )


def files(settings: TasksSettings, seed: int) -> dict[str, list[Task]]:
    """Return the tasks of every file of the stage; no calculation is in two of them."""
    train = _drawn("train", settings.synthesis + settings.train, seed)
    return {
        "synthesis": train[: settings.synthesis],
        "train": train[settings.synthesis :],
        "validation": _drawn("validation", settings.validation, seed),
        "test": _drawn("test", settings.test, seed),
        "harder": _drawn("test", settings.test, seed, "harder"),
    }


def _drawn(split: Split, count: int, seed: int, tier: Tier = "standard") -> list[Task]:
    return [task_of(story, tier) for story in tasks(split, count, seed=seed, tier=tier)]


def ends_right(task: Task, thought: str) -> bool | None:
    """Tell whether the last number of a thought is the answer; None for tasks of other sources.

    A check of the reasoning alone, by parsing: a guess after a wrong or unfinished thought does not pass.
    """
    if not task.id.startswith(f"{SOURCE}/"):
        return None
    numbers = re.findall(r"\d+", thought)
    return bool(numbers) and numbers[-1] in re.findall(r"\d+", task.reference)
