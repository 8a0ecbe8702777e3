"""Where results go: a JSON Lines file, a Parquet file, or stdout; each is told every record once, in order."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from opera_cli.exits import leave_stdout
from opera_cli.written import same_file
from opera_client.errors import BadInput
from opera_client.files import journal, parquet
from opera_client.files.journal import Journal, Record
from opera_client.files.parquet import require_pyarrow, to_jsonl, to_parquet

Seen = Callable[[Record], None]
DigestAt = Callable[[int], str | None]


class Output(Protocol):
    """A place for records."""

    path: Path | None

    def held(self) -> tuple[int, Any]:
        """Return how many records are there already and the model of the first, before `open`."""
        ...

    def open(self, run: dict[str, Any], digest_at: DigestAt, /) -> int:
        """Get ready and return how many records are there already. Raises `BadInput`."""
        ...

    def add(self, digest: str, result: Record) -> None:
        """Keep one more record."""
        ...

    def finish(self) -> None:
        """All records are there."""
        ...


class JsonlOutput:
    """A JSON Lines file that an interrupted command goes on with."""

    def __init__(self, path: Path, seen: Seen) -> None:
        self.path: Path | None = path
        self._file, self._seen = path, seen

    def held(self) -> tuple[int, Any]:
        """Look into the file."""
        return journal.held(self._file)

    def open(self, run: dict[str, Any], digest_at: DigestAt) -> int:
        """Take up what is there."""
        self._journal = Journal(self._file, run)
        self._journal.claim()
        self._journal.resume(digest_at, self._seen)
        return self._journal.done

    def add(self, digest: str, result: Record) -> None:
        """Append one line."""
        self._seen(self._journal.append(digest, result))

    def finish(self) -> None:
        """Close the file."""
        self._journal.close()


class ParquetOutput:
    """A Parquet file, one row a record; a Parquet file cannot grow, so OUT.partial.jsonl holds it until whole."""

    def __init__(self, path: Path, seen: Seen) -> None:
        require_pyarrow("writing Parquet")
        self.path: Path | None = path
        self._file, self._seen = path, seen
        self._partial = path.with_name(path.name + ".partial.jsonl")

    def held(self) -> tuple[int, Any]:
        """Look into the file, unless there is a partial one, which has more to say."""
        return (0, None) if self._partial.exists() else parquet.held(self._file)

    def open(self, run: dict[str, Any], digest_at: DigestAt) -> int:
        """Take up what is there, also a whole file."""
        self._journal = Journal(self._partial, run, shown=self._file)
        self._journal.claim()
        spelled = self._file.exists() and not self._partial.stat().st_size
        try:
            if spelled:
                to_jsonl(self._file, self._partial)
            self._journal.resume(digest_at, self._seen)
        except BadInput:
            if spelled:
                self._partial.unlink(missing_ok=True)
            raise
        return self._journal.done

    def add(self, digest: str, result: Record) -> None:
        """Append one line to the partial file."""
        self._seen(self._journal.append(digest, result))

    def finish(self) -> None:
        """Turn the partial file into Parquet, in one step."""
        to_parquet(self._partial, self._file)
        self._partial.unlink()
        self._journal.close()


class StdoutOutput:
    """JSON Lines on stdout, nothing to go on with; `show` may print something more readable instead."""

    path: Path | None = None

    def __init__(self, seen: Seen, show: Seen | None = None) -> None:
        self._seen = seen
        self._show = show or _print

    def held(self) -> tuple[int, Any]:
        """Nothing."""
        return 0, None

    def open(self, run: dict[str, Any], _: DigestAt, /) -> int:
        """Begin at the beginning."""
        self._run = run
        return 0

    def add(self, digest: str, result: Record) -> None:
        """Print one record."""
        record = {"input": digest, "run": self._run, **result}
        self._show(record)
        self._seen(record)

    def finish(self) -> None:
        sys.stdout.flush()


def _print(record: Record) -> None:
    line = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        leave_stdout()
        raise BadInput(f"cannot write to standard output: {error.strerror}; mend that, or give -o") from None


def output_for(out: Path | None, source: Path, seen: Seen, show: Seen | None = None) -> Output:
    """Return the output that `-o` asks for.

    Raises:
        BadInput: OUT is the input file, no file, or to be packed.
    """
    if out is None:
        return StdoutOutput(seen, show)
    if same_file(out, source):
        raise BadInput(f"{out} is the input file; choose another -o")
    if out.is_dir():
        raise BadInput(f"{out} is a directory; give a file name for -o")
    if out.suffix == ".gz":
        raise BadInput(f"{out} would not be packed, for it grows line by line; give -o a name without .gz")
    if out.exists() and not out.is_file():
        raise BadInput(f"{out} is no regular file; leave -o out to write to stdout")
    return ParquetOutput(out, seen) if out.suffix == ".parquet" else JsonlOutput(out, seen)
