"""The folder beside OUT: one file of results a chunk, there whole or not at all, and what they were made with.

It knows files; no Ray and no engine.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from opera_client.errors import BadInput
from opera_client.files.journal import Record, difference
from opera_client.files.parquet import to_parquet

_UNFINISHED = ".unfinished-"


class Parts:
    """Results by chunk number. Used by the command and by all workers, who must see the same disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, index: int) -> Path:
        """Return where the results of a chunk are, or will be."""
        return self.folder / f"part-{index:06d}.jsonl"

    def done(self, chunks: int) -> set[int]:
        """Return the chunks whose results are there."""
        there = {entry.name for entry in os.scandir(self.folder)}
        return {index for index in range(chunks) if self.path(index).name in there}

    def write(self, index: int, records: Sequence[Record]) -> None:
        """Put all results of a chunk in place, in one step; once more is harmless."""
        lines = (json.dumps(one, separators=(",", ":"), ensure_ascii=False, allow_nan=False) for one in records)
        self._put(self.path(index), "".join(f"{line}\n" for line in lines))

    def read(self, index: int) -> Iterator[Record]:
        """Yield the results of a chunk."""
        with self.path(index).open("rb") as file:
            for raw in file:
                yield json.loads(raw)

    def agree(self, name: str, value: dict[str, Any]) -> None:
        """Note what the results are made with, or raise `BadInput` when they were begun with something else."""
        path = self.folder / f"_{name}.json"
        if not path.exists():
            # A link fails where the name is taken, and is whole where it is not: one of many workers wins.
            own = self._written(path, json.dumps(value))
            with suppress(FileExistsError):
                path.hardlink_to(own)
            own.unlink()
        known = json.loads(path.read_text(encoding="utf-8"))
        if known != value:
            raise BadInput(
                f"{self.folder} was begun with {difference(known, value)}; choose another -o, or run it as before"
            )

    def noted(self, name: str) -> dict[str, Any] | None:
        """Return what `agree` or `note` wrote."""
        path = self.folder / f"_{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def note(self, name: str, value: dict[str, Any]) -> None:
        """Write something down for the next run."""
        self._put(self.folder / f"_{name}.json", json.dumps(value))

    def join(self, chunks: int, out: Path) -> None:
        """Make OUT of all results in order, in one step, and remove the folder. Raises `BadInput`."""
        whole = self.folder / "_whole.jsonl"
        try:
            with whole.open("wb") as file:
                for index in range(chunks):
                    with self.path(index).open("rb") as part:
                        shutil.copyfileobj(part, file)
            if out.suffix == ".parquet":
                to_parquet(whole, out)
            else:
                whole.replace(out)
        except OSError as error:
            raise BadInput(f"cannot write {out}: {error.strerror}; run the same command again to go on") from None
        shutil.rmtree(self.folder)

    def tidy(self) -> None:
        """Remove what interrupted writers left behind."""
        for path in self.folder.glob(f"*{_UNFINISHED}*"):
            path.unlink(missing_ok=True)

    def _put(self, path: Path, text: str) -> None:
        self._written(path, text).replace(path)

    def _written(self, path: Path, text: str) -> Path:
        own = path.with_name(f"{path.name}{_UNFINISHED}{uuid.uuid4().hex}")
        own.write_text(text, encoding="utf-8")
        return own
