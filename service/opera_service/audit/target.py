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
        """Give up the connection; the next batch makes a new one. Raises `Spoiled`; it is given up then, too."""
        ...


class Spoiled(Exception):
    """Something else wrote into the log's file. It was moved beside; the next batch begins a new file."""

    def __init__(self, message: str, trajectories: int) -> None:
        super().__init__(message)
        self.trajectories = trajectories
        """How many this process had written to that file."""


CHECKPOINT_BYTES = 4 * 2**20
"""So much of entries may stand in SQLite's write-ahead file."""


class LogFile:
    """The audit log's file at a path, made anew when it was moved away, removed, truncated or overwritten.

    SQLite does not notice a file that becomes shorter below it (logrotate's `copytruncate`, `> audit.db`): it goes
    on in its write-ahead file, and mixes the two at the next checkpoint. So size and header are looked at before
    each batch and each checkpoint; closing is one. The size that the file must have comes from what SQLite wrote,
    never from the file: what is looked up after a checkpoint may be somebody else's doing already. For that reason
    SQLite makes no checkpoints by itself.

    A file that is changed within the moment between the look and the writing is found at the next look.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._size = 0
        """Bytes that the main file has at least; it never becomes shorter by our own doing."""
        self._trajectories = 0
        """Written to this file."""
        self._ahead = 0
        """Bytes of the entries that may not be in the main file yet."""

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
        self._ahead += sum(entry.bytes for entry in entries)
        if self._ahead > CHECKPOINT_BYTES:
            self._ahead = 0  # a reader may keep the rows where they are: they go with the next so many
            self._checkpoint(connection, "PASSIVE")

    def tidy(self) -> None:
        """Move the rows out of SQLite's write-ahead file."""
        if self._connection is not None:
            self._checkpoint(self._connection, "TRUNCATE")

    def forget(self) -> None:
        """Close the connection."""
        if self._connection is None:
            return
        if harm := self._harm():
            raise self._set_aside(harm)
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self._file != _identity(self._path):
                self._close()
            elif harm := self._harm():
                raise self._set_aside(harm)
        if self._connection is None:
            self._connection = store.open_for_writing(self._path)
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._file, self._size = _identity(self._path), store.size(self._connection)
            self._trajectories = self._ahead = 0
        return self._connection

    def _checkpoint(self, connection: sqlite3.Connection, mode: str) -> None:
        """Move what can be moved into the main file, if that is ours still; the next batch says if not."""
        if self._harm() is not None:
            return
        with suppress(sqlite3.Error):
            size = store.size(connection)
            if store.checkpoint(connection, mode):
                self._size = size

    def _harm(self) -> str | None:
        """What somebody else did to the file that is open."""
        try:
            found = self._path.stat()
            if self._file != (found.st_dev, found.st_ino):
                return None  # another file, which the next batch notices
            if found.st_size < self._size:
                return f"it was truncated from {self._size} to {found.st_size} bytes"
            if not store.is_header(_head(self._path)):
                return "it was overwritten"
        except OSError:
            return None
        return None

    def _set_aside(self, harm: str) -> Spoiled:
        """Move what is at the path beside, unless it is empty, so that the log goes on under its own name."""
        with suppress(OSError):  # or closing would write these pages into what is no longer our file
            os.truncate(f"{self._path}-wal", 0)
        self._close()
        lost, self._trajectories = self._trajectories, 0
        beside = self._path.with_name(f"{self._path.name}.spoiled-{time.time_ns()}")
        try:
            if self._path.stat().st_size:
                self._path.rename(beside)
            else:
                self._path.unlink()
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        except OSError as error:  # the next batch finds what is there, and says so until somebody moves it
            return Spoiled(f"{harm}; it cannot be moved aside ({error.strerror})", lost)
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
