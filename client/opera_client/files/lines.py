"""JSON Lines with line numbers: reads objects by offset, and says in one line what is wrong with a file.

Knows no groups; Parquet is first spelled out as JSON Lines, so that there is one reader.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from opera_client.errors import BadInput
from opera_client.files.parquet import spelled_out

STANDARD = Path("-")
"""In place of a file: standard input or output."""


class Lines:
    """An open input file; `unit` is how a place in it is called (`line`, or `row` of a Parquet file)."""

    def __init__(self, path: Path) -> None:
        """Open `path`; `-` is standard input, which is kept on disk, for its lines are read more than once.

        Raises:
            BadInput: missing, a directory, unreadable, or no Parquet inside.
        """
        self.name = "standard input" if path == STANDARD else str(path)
        """What messages call the file."""
        self.unit = "line"
        if path == STANDARD:
            self._file: IO[bytes] = _kept(sys.stdin.buffer)
            return
        if path.is_dir():
            raise BadInput(f"{path} is a directory; give a .jsonl, .jsonl.gz or .parquet file")
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            raise BadInput(f"{path} does not exist") from None
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror}") from None
        if path.suffix == ".gz":
            self._file = _unpacked(path, self._file)
        elif path.suffix == ".parquet":
            self.unit = "row"
            self._file = spelled_out(path, self._file)

    def close(self) -> None:
        self._file.close()

    def scan(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield (number from 1, byte offset, object) of every line that is not blank.

        Raises:
            BadInput: naming file, line and remedy.
        """
        self._file.seek(0)
        offset = 0
        for number, raw in enumerate(self._file, start=1):
            if raw.strip(b"\xef\xbb\xbf \t\r\n"):
                yield number, offset, self._parsed(number, raw)
            offset += len(raw)

    def at(self, offset: int) -> dict[str, Any]:
        """Return the object at a byte offset that `scan` gave."""
        self._file.seek(offset)
        return parsed(self._file.readline())

    def wrong(self, number: int, what: str) -> BadInput:
        """Return the error about one line."""
        return BadInput(f"{self.name}, {self.unit} {number}: {what}")

    def _parsed(self, number: int, raw: bytes) -> dict[str, Any]:
        try:
            return parsed(raw)
        except ValueError as error:
            raise self.wrong(number, str(error)) from None


def _kept(stream: IO[bytes]) -> IO[bytes]:
    spool = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    shutil.copyfileobj(stream, spool)
    return spool


def parsed(raw: bytes) -> dict[str, Any]:
    """Return the object of one line. Raises `ValueError` that says what to do about it."""
    try:
        # Without the line's end: what is missing there would be told as column 1 of a line after it.
        # NaN is read: in a column that nobody uses it does no harm, and elsewhere the field's own check finds it.
        found = json.loads(raw.decode("utf-8-sig").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise ValueError(f"not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        if not raw.endswith(b"\n"):
            raise ValueError("half-written JSON at the end of the file; complete that line or delete it") from None
        problem = f"{error.msg.removesuffix(' at')} at column {error.colno}"  # some end in "starting at"
        raise ValueError(f"not JSON: {problem}; one whole object a line: mend it or delete it") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON that can be read: {error}; mend that line or delete it") from None
    if not isinstance(found, dict):
        name = type(found).__name__
        kind = {"list": "a list", "str": "text"}.get(name, name)
        raise ValueError(f"a JSON object is needed, not {kind}; write one object a line")
    return found


def _unpacked(path: Path, file: IO[bytes]) -> IO[bytes]:
    """Return what an open .gz file holds, in a temporary file that can be read from any place."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    try:
        with file, gzip.open(file) as packed:
            shutil.copyfileobj(packed, spool)
    except (OSError, EOFError, zlib.error) as error:
        spool.close()
        raise BadInput(f"{path} cannot be unpacked ({error}); copy or pack it again") from None
    spool.seek(0)
    return spool
