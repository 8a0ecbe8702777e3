"""Rows of a data set of prompts and references, each with the words for its place. Knows files, no tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from opera_client.errors import BadInput
from opera_client.files.lines import Lines
from opera_service.failures import reason_of
from opera_trainer.settings.tasks import TasksSettings

OPEN = "open"
"""The source that comes with the package: a folder like any other."""
FILES = (".jsonl", ".parquet")


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
    path = Path(str(files("opera_trainer.tasks").joinpath("open")) if settings.source == OPEN else settings.source)
    if path.suffix in FILES:
        yield from _of_file(path)
    elif found := _files_of(path, settings.source_split):
        for file in found:
            yield from _of_file(file)
    else:
        yield from _of_data_set(settings, path)


def _files_of(folder: Path, split: str) -> list[Path]:
    """Return the files of rows in a folder in the order of their names, those of `split` alone if it has any.

    So a user's own `test.jsonl` beside a `train.jsonl` is never trained on.
    """
    if not folder.is_dir():
        return []
    found = sorted(path for path in folder.iterdir() if path.suffix in FILES and not path.name.startswith("."))
    return [path for path in found if path.stem.partition("-")[0] == split] or found


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
        said = reason_of(error)
        raise BadInput(
            f"tasks.source: {name} is no .jsonl or .parquet, no folder of such files, and `datasets` says: {said}"
        ) from None
    for number, fields in enumerate(rows, start=1):
        yield Record(dict(fields), lambda what, number=number: BadInput(f"{name}, row {number}: {what}"))  # type: ignore[misc]
