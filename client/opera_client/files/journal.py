"""The OUT file: one complete JSON line a result, in the order of the input, safe to interrupt at any byte.

A line begins with the digest of its input and the run it belongs to, so that going on after an interruption
can tell what is done, and never mixes two inputs, two configurations or two weight versions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from opera_client.errors import BadInput
from opera_client.files.lock import claim

Record = dict[str, Any]
"""A result as on the wire, plus `input` and `run`."""

_OPENING = b'{"input":"'


class Journal:
    """An OUT file: this process's own after `claim`, open for appending after `resume`."""

    def __init__(self, path: Path, run: dict[str, Any], *, shown: Path | None = None) -> None:
        self._path = path
        self.path = shown or path
        """What messages call the file."""
        self.run = run
        self.done = 0
        """Complete lines in the file."""

    def claim(self) -> None:
        """Open the file, made if need be, and keep other commands from it until `close`. Raises `BadInput`."""
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise self._cannot_write(error) from None
        try:
            claim(self._file.fileno(), self._path)
        except BadInput:
            self._file.close()
            raise

    def resume(self, digest_at: Callable[[int], str | None], seen: Callable[[Record], None]) -> None:
        """Count what an earlier run left, drop a half-written last line, and open for appending.

        Args:
            digest_at: the digest of the input at a position, None past its end.
            seen: called with every complete record, in order.

        Raises:
            BadInput: the file cannot be written, or is not an earlier OUT of the same question.
        """
        try:
            self._file.seek(0)
            keep = 0
            for raw in self._file:
                if not raw.endswith(b"\n"):
                    self._check_torn(raw)
                    break
                seen(self._checked(raw, digest_at(self.done)))
                self.done += 1
                keep += len(raw)
            self._file.truncate(keep)
            self._file.seek(keep)
        except OSError as error:
            raise self._cannot_write(error) from None

    def append(self, digest: str, result: Record) -> Record:
        """Write one record as one line; it survives whatever ends the process afterwards."""
        record = {"input": digest, "run": self.run, **result}
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise BadInput(
                f"cannot write {self.path}: {error.strerror}; mend that and run the same command again to go on"
            ) from None
        self.done += 1
        return record

    def close(self) -> None:
        """Close the file; whatever could not be written was reported when it was appended."""
        with suppress(OSError):  # a full disk refuses the rest of that record a second time
            self._file.close()

    def _cannot_write(self, error: OSError) -> BadInput:
        return BadInput(f"cannot write {self.path}: {error.strerror}; choose another -o")

    def _checked(self, raw: bytes, digest: str | None) -> Record:
        number = self.done + 1
        try:
            record: Record = json.loads(raw)
            given, run = record["input"], record["run"]
        except (ValueError, KeyError, TypeError):
            raise BadInput(
                f"{self.path}, line {number} is not a result of this command; choose another -o"
            ) from None
        if run != self.run:
            raise BadInput(
                f"{self.path} was begun with {difference(run, self.run)}; choose another -o, or run it as before"
            )
        if given != digest:
            raise BadInput(f"{self.path}, line {number} answers another input; choose another -o")
        return record

    def _check_torn(self, raw: bytes) -> None:
        # Only our own unfinished line may be dropped, never a stranger's file without a newline.
        if raw[: len(_OPENING)] != _OPENING[: len(raw)]:
            raise BadInput(f"{self.path} is not a result of this command; choose another -o")


def held(path: Path) -> tuple[int, Any]:
    """Return how many records an OUT file holds and the model of its first; 0 and None unless all are whole."""
    try:
        with path.open("rb") as file:
            last = first = file.readline()
            count = 1
            for count, last in enumerate(file, start=2):  # noqa: B007  both are those of the last line
                pass
            return (count, json.loads(first)["run"]["model"]) if last.endswith(b"\n") else (0, None)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, None


def difference(old: object, new: dict[str, Any]) -> str:
    """Return the first thing in which an earlier run differs from this one, for a message."""
    if not isinstance(old, dict) or old.keys() != new.keys():
        return "another version of opera-reward"
    name = next(name for name in new if old[name] != new[name])
    if name == "model" and isinstance(old[name], dict) and old[name].keys() == new[name].keys():
        return difference(old[name], new[name])
    return f"{name} {json.dumps(old[name])}, not {json.dumps(new[name])}"
