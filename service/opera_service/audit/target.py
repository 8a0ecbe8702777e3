"""Where entries are written to: a SQLite file, or whatever else holds the same tables.

Knows connections; no queue, no thread.
"""

from __future__ import annotations

import sqlite3
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
        """Add all of `entries` or none. Raises `sqlite3.Error` and `NotAnAuditLog`."""
        ...

    def tidy(self) -> None:
        """Do what waits for a moment without news."""
        ...

    def forget(self) -> None:
        """Give up the connection; the next batch makes a new one."""
        ...


class LogFile:
    """The audit log's file at a path, made anew when it was moved away or removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def __str__(self) -> str:
        return str(self._path)

    def check(self) -> None:
        """Open the file once, and make it if need be."""
        store.open_for_writing(self._path).close()

    def write(self, entries: Sequence[Entry]) -> None:
        """Add entries in one transaction."""
        store.write(self._connected(), entries)

    def tidy(self) -> None:
        """Move the rows out of SQLite's write-ahead file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def forget(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._file != _identity(self._path):
            self.forget()
        if self._connection is None:
            self._connection = store.open_for_writing(self._path)
            self._file = _identity(self._path)
        return self._connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
