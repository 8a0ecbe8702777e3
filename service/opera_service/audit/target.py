"""Where entries are written to: a SQLite file, or whatever else holds the same tables.

Knows connections; no queue, no thread.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from opera_service.audit import store
from opera_service.audit.entries import Entry


class Target(Protocol):
    """Takes batches from one thread. `str` names it in log lines."""

    def check(self) -> None:
        """Raise `NotAnAuditLog` or `sqlite3.Error` when nothing can ever be written here."""
        ...

    def write(self, entries: Sequence[Entry]) -> None:
        """Add all of `entries` or none. Raises `sqlite3.Error`, `NotAnAuditLog`, `OSError` and `Spoiled`."""
        ...

    def tidy(self) -> None:
        """Do what waits for a moment without news."""
        ...

    def forget(self) -> None:
        """Give up the connection; the next batch makes a new one."""
        ...


class Spoiled(Exception):
    """Something else wrote into the log's file. It was moved beside; the next batch begins a new file."""

    def __init__(self, message: str, trajectories: int) -> None:
        super().__init__(message)
        self.trajectories = trajectories
        """How many this process had written to that file."""


class LogFile:
    """The audit log's file at a path, made anew when it was moved away, removed, truncated or overwritten.

    SQLite does not notice a file that becomes shorter below it (logrotate's `copytruncate`, `> audit.db`): it goes
    on in its write-ahead file, and mixes the two at the next checkpoint. So size and header are looked at before
    each batch and each checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._size = 0
        """Bytes of the main file when last seen; it never becomes shorter by our own doing."""
        self._trajectories = 0
        """Written to this file."""

    def __str__(self) -> str:
        return str(self._path)

    def check(self) -> None:
        """Open the file once, and make it if need be."""
        store.open_for_writing(self._path).close()

    def write(self, entries: Sequence[Entry]) -> None:
        """Add entries in one transaction."""
        connection = self._connected()
        try:
            store.write(connection, entries)
        except sqlite3.DatabaseError as error:
            if store.is_damaged(error):
                raise self._set_aside(str(error)) from error
            raise
        self._trajectories += sum(len(entry.members) for entry in entries)

    def tidy(self) -> None:
        """Move the rows out of SQLite's write-ahead file."""
        if self._connection is not None and self._harm() is None:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._see()

    def forget(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._file != _identity(self._path):
                self.forget()
            elif harm := self._harm():
                raise self._set_aside(harm)
        if self._connection is None:
            self._connection = store.open_for_writing(self._path)
            self._file, self._size = _identity(self._path), 0
            self._trajectories = 0
        self._see()
        return self._connection

    def _see(self) -> None:
        with suppress(OSError):  # gone: the next batch makes it anew
            self._size = self._path.stat().st_size

    def _harm(self) -> str | None:
        """What somebody else did to the file that is open."""
        try:
            if self._file != _identity(self._path):
                return None  # another file, which the next batch notices
            size = self._path.stat().st_size
            if size < self._size:
                return f"it was truncated from {self._size} to {size} bytes"
            if size and not store.is_header(_head(self._path)):
                return "it was overwritten"
        except OSError:
            return None
        return None

    def _set_aside(self, harm: str) -> Spoiled:
        """Move what is at the path beside, unless it is empty, so that the log goes on under its own name."""
        with suppress(OSError):  # or closing would write these pages into what is no longer our file
            os.truncate(f"{self._path}-wal", 0)
        self.forget()
        lost, self._trajectories = self._trajectories, 0
        beside = self._path.with_name(f"{self._path.name}.spoiled-{time.time_ns()}")
        if self._path.stat().st_size:
            self._path.rename(beside)
        else:
            self._path.unlink()
        for suffix in ("-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        what = f"what is left is {beside}" if beside.exists() else "nothing was left of it"
        return Spoiled(f"{harm}; {what}", lost)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(store.HEADER_BYTES)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
