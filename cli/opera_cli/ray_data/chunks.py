"""A data set in pieces that every machine cuts alike: byte ranges of JSON Lines, row ranges of Parquet.

Cutting reads no data. A piece is read in order, line by line. It knows no groups and no results.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opera_client.errors import BadInput
from opera_client.extras import missing_extra
from opera_client.files.lines import parsed
from opera_client.files.parquet import refuse_twins, without_nulls

CHUNKS = 256
"""At least so many, where there are lines enough: what workers share out among themselves."""
BYTES = (16 * 2**10, 4 * 2**20)
"""Least and most of a piece of JSON Lines, which a worker holds at a time and, interrupted, scores again."""
ROWS = (8, 512)
"""The same of Parquet."""
SUFFIXES = (".jsonl", ".parquet")


@dataclass(frozen=True)
class Chunk:
    """Lines that begin in [begin, end) of a file, or rows [begin, end) of a row group."""

    index: int
    path: str
    begin: int
    end: int
    row_group: int | None = None
    step: int = 0
    """Rows of the pieces that the row group is cut into."""

    @property
    def unit(self) -> str:
        """How a place in it is called."""
        return "line" if self.row_group is None else "row"

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (number within the chunk from 1, object) of every line that is not blank. Raises `BadLine`."""
        raw_lines = self._jsonl() if self.row_group is None else self._parquet()
        for number, raw in enumerate(raw_lines, start=1):
            if raw.strip(b"\xef\xbb\xbf \t\r\n"):
                try:
                    yield number, parsed(raw)
                except ValueError as error:
                    raise BadLine(number, str(error)) from None

    def count(self) -> int:
        """Return how many lines it has, blank ones included."""
        return sum(1 for _ in self._jsonl()) if self.row_group is None else self.end - self.begin

    def _jsonl(self) -> Iterator[bytes]:
        with Path(self.path).open("rb") as file:
            if self.begin:
                file.seek(self.begin - 1)
                file.readline()  # the rest of a line that began before, or the end of one
            while file.tell() < self.end and (raw := file.readline()):
                yield raw

    def _parquet(self) -> Iterator[bytes]:
        from pyarrow.parquet import ParquetFile

        start = 0
        with ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=self.step, row_groups=[self.row_group]):
                if start == self.begin:
                    for row in batch.to_pylist():
                        try:
                            yield json.dumps(without_nulls(row)).encode() + b"\n"
                        except TypeError as error:
                            yield json.dumps(f"a column cannot be spelled as JSON ({error})").encode()
                    return
                start += batch.num_rows


class BadLine(ValueError):
    """A line that cannot be used: its number within the chunk, and what to do about it."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(number, what)
        self.number, self.what = number, what


def files_of(source: Path) -> list[Path]:
    """Return the files of a data set: one file, or those of a folder by name. Raises `BadInput`."""
    if not source.exists():
        raise BadInput(f"{source} does not exist")
    found = sorted(source.iterdir()) if source.is_dir() else [source]
    if packed := next((path for path in found if path.suffix == ".gz"), None):
        raise BadInput(f"{packed} is packed, so workers cannot share it out; unpack it first")
    files = [path for path in found if path.suffix in SUFFIXES] if source.is_dir() else found
    if not files:
        raise BadInput(f"{source} holds no .jsonl and no .parquet files")
    return files


def cut(files: Sequence[Path]) -> list[Chunk]:
    """Return the chunks of all files, in order. Raises `BadInput` for a file that cannot be read."""
    extents = [_extents(path) for path in files]
    found: list[Chunk] = []
    for group, limits in ((False, BYTES), (True, ROWS)):
        total = sum(size for extent in extents for number, size in extent if (number is not None) is group)
        step = min(max(total // CHUNKS, limits[0]), limits[1])
        for path, extent in zip(files, extents, strict=True):
            for number, size in extent:
                if (number is not None) is group:
                    ranges = [(begin, min(begin + step, size)) for begin in range(0, size, step)]
                    found += [Chunk(0, str(path.resolve()), *one, number, step) for one in ranges]
    order = {str(path.resolve()): at for at, path in enumerate(files)}
    found.sort(key=lambda chunk: order[chunk.path])  # stable: within a file they are in order
    return [replace(chunk, index=index) for index, chunk in enumerate(found)]


def _extents(path: Path) -> list[tuple[int | None, int]]:
    """Return the bytes of a JSON Lines file, or number and rows of every row group of a Parquet file."""
    try:
        if path.suffix != ".parquet":
            return [(None, path.stat().st_size)]
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(path) as file:
                refuse_twins(path, file.schema_arrow)
                metadata = file.metadata
                return [(at, metadata.row_group(at).num_rows) for at in range(metadata.num_row_groups)]
        except ArrowException as error:
            raise BadInput(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}") from None
    except ModuleNotFoundError as error:
        raise missing_extra(error, "reading Parquet") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from None
