"""Rows of a data set become tasks: chat format, one task a question, split by hash. Knows no files, no model."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from opera_client.wire import Message, problem_of
from opera_trainer.artefacts import Task
from opera_trainer.settings.tasks import TasksSettings
from opera_trainer.tasks.records import Record

_MESSAGES = TypeAdapter(list[Message])


@dataclass
class Collected:
    """Different tasks, and what was left out."""

    tasks: dict[str, Task] = field(default_factory=dict)
    """By id, in the order of the source."""
    read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def collect(rows: Iterable[Record], settings: TasksSettings) -> Collected:
    """Return the different tasks of some rows. Of equal prompts the first counts.

    Raises:
        BadInput: a row lacks a field or has one of the wrong type; it names place and field.
    """
    found = Collected()
    for row in rows:
        found.read += 1
        task = task_of(row, settings)
        known = found.tasks.setdefault(task.id, task)
        if known is not task:
            found.dropped["duplicate" if known.reference == task.reference else "other_reference"] += 1
    return found


def task_of(row: Record, settings: TasksSettings) -> Task:
    """Return one row as a task. Raises BadInput."""
    prompt = _prompt(row, settings)
    reference = _text(row, settings.reference_column)
    kind = settings.kind
    if settings.kind_column is not None:
        kind = "math" if _text(row, settings.kind_column) == "math" else "open"
    return Task(
        id=identity(prompt),
        prompt=prompt,
        reference=reference,
        second_reference=_second(row, settings, reference),
        kind=kind,
        check=settings.check,
    )


def identity(prompt: Iterable[Message]) -> str:
    """Return the name of a prompt: equal for prompts that differ in case and white space only."""
    canonical = "\x1e".join(f"{one.role}\x1f{' '.join(one.content.casefold().split())}" for one in prompt)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


def split_of(task_id: str) -> str:
    """Return the split of a task: 80 % train, 5 % validation, 15 % test, whatever else is in the data set."""
    bucket = int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 80 else "validation" if bucket < 85 else "test"


def files(tasks: Iterable[Task], settings: TasksSettings, seed: int) -> dict[str, list[Task]]:
    """Return the tasks of every file of the stage, in an order that depends on seed and ids only."""

    def place(task: Task) -> bytes:
        return hashlib.sha256(f"{seed}/{task.id}".encode()).digest()

    splits: dict[str, list[Task]] = {"train": [], "validation": [], "test": []}
    for task in sorted(tasks, key=place):
        splits[split_of(task.id)].append(task)
    train = splits["train"]
    return {
        "synthesis": train[: settings.synthesis],
        "train": train[settings.synthesis : settings.synthesis + settings.train],
        "validation": splits["validation"][: settings.validation],
        "test": splits["test"][: settings.test],
    }


def _prompt(row: Record, settings: TasksSettings) -> list[Message]:
    value = _field(row, settings.prompt_column)
    if isinstance(value, str):
        prompt = [Message(role="user", content=_not_blank(row, settings.prompt_column, value))]
    else:
        prompt = _messages(row, settings.prompt_column, value)
    if settings.system is not None and prompt[0].role != "system":
        prompt = [Message(role="system", content=settings.system), *prompt]
    return prompt


def _messages(row: Record, name: str, value: Any) -> list[Message]:
    try:
        prompt = _MESSAGES.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, (name, *first["loc"])))
        raise row.wrong(f"{where}: {problem_of(first)}; text, or a list of {{role, content}}, is needed") from None
    if not prompt or prompt[-1].role == "assistant":
        raise row.wrong(f"{name}: the last message must be one that an assistant answers")
    return prompt


def _second(row: Record, settings: TasksSettings, reference: str) -> str | None:
    name = settings.second_reference_column
    if row.fields.get(name) is None:
        return None
    second = _text(row, name)
    if second.split() == reference.split():
        raise row.wrong(
            f"{name}: is {settings.reference_column} again; write another good answer, or leave it out"
        )
    return second


def _text(row: Record, name: str) -> str:
    value = _field(row, name)
    if not isinstance(value, str):
        raise row.wrong(f"{name}: text is needed, not {type(value).__name__}")
    return _not_blank(row, name, value)


def _not_blank(row: Record, name: str, value: str) -> str:
    if not value.strip():
        raise row.wrong(f"{name}: is empty")
    return value


def _field(row: Record, name: str) -> Any:
    if row.fields.get(name) is None:
        known = ", ".join(sorted(row.fields)) or "none"
        raise row.wrong(f"{name}: is missing (fields here: {known})")
    return row.fields[name]
