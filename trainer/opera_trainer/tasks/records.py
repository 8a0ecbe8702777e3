"""Rows of a data set of prompts and references, each with the words for its place. Knows files, no tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_cli.exits import BadInput
from opera_cli.lines import Lines
from opera_trainer.tasks.settings import TasksSettings


@dataclass(frozen=True)
class Record:
    """One row."""

    fields: dict[str, Any]
    wrong: Callable[[str], BadInput]
    """Makes the error about this row: file, line and what is wrong."""


def records(settings: TasksSettings) -> Iterator[Record]:
    """Yield the rows of `settings.source` in order.

    Raises:
        BadInput: naming file and line, or the data set and what `datasets` said.
    """
    path = Path(settings.source)
    if path.suffix in (".jsonl", ".parquet"):
        yield from _of_file(path)
    else:
        yield from _of_data_set(settings, path)


def _of_file(path: Path) -> Iterator[Record]:
    lines = Lines(path)
    try:
        for number, _, fields in lines.scan():
            yield Record(fields, lambda what, number=number: lines.wrong(number, what))  # type: ignore[misc]
    finally:
        lines.close()


def _of_data_set(settings: TasksSettings, path: Path) -> Iterator[Record]:
    import datasets

    name = settings.source
    try:
        if path.is_dir() and (path / "dataset_info.json").exists():
            rows = datasets.load_from_disk(str(path))
        else:
            rows = datasets.load_dataset(name, settings.subset, split=settings.source_split)
    except Exception as error:  # noqa: BLE001 (whatever a loader raises, the user must change `tasks.source`)
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f"tasks.source: {name} is no .jsonl or .parquet, and `datasets` says: {said}") from None
    for number, fields in enumerate(rows, start=1):
        yield Record(dict(fields), lambda what, number=number: BadInput(f"{name}, row {number}: {what}"))  # type: ignore[misc]
