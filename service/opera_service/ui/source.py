"""Where kept groups are read: the audit log's file, or a bounded piece of memory with the same tables.

Memory is one SQLite database with one connection, which writer and readers use in turn. Knows no queries.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, Protocol

from opera_service.audit import store
from opera_service.audit.entries import Entry
from opera_service.audit.schema import make_tables

Kind = Literal["memory", "audit"]


class Source(Protocol):
    """Lends a connection whose rows come by column name."""

    kind: Kind
    limit_bytes: int | None
    """What it may take; None where everything is kept."""
    dropped: Counter[str | None]
    """Groups that made room for newer ones, by run id."""

    def connection(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend the connection for a block."""
        ...

    def bytes(self) -> int: ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class Memory:
    """The newest groups, in at most `limit_bytes`. Also a target of the audit log's writer."""

    kind: Kind = "memory"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes: int | None = limit_bytes
        self.dropped: Counter[str | None] = Counter()
        self.before_dropping: Callable[[sqlite3.Connection], None] = lambda _: None
        """Called before groups make room for newer ones."""
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        make_tables(self._connection)

    def __str__(self) -> str:
        return "in memory"

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection; whoever else wants it waits."""
        with self._lock:
            yield self._connection

    def check(self) -> None:
        """Memory can always be written."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Add entries, and let older ones make room. What is new stays until the next batch, however large."""
        with self._lock:
            newest = self._newest()
            self._make_room(sum(entry.bytes for entry in entries), newest)
            store.write(self._connection, entries)
            self._make_room(0, newest)

    def tidy(self) -> None:
        """Nothing waits."""

    def forget(self) -> None:
        """The connection is the data: it stays."""

    def bytes(self) -> int:
        """Return what the rows take, in whole pages."""
        with self._lock:
            return self._bytes()

    def close(self) -> None:
        """Drop everything."""
        with self._lock:
            self._connection.close()

    def _bytes(self) -> int:
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _newest(self) -> int:
        return int(self._connection.execute("SELECT coalesce(max(key), 0) FROM groups").fetchone()[0])

    def _make_room(self, wanted: int, newest: int) -> None:
        """Drop the oldest sixteenth up to `newest` until `wanted` bytes fit, or none is left.

        SQLite uses the freed pages again, so that memory stays as it is.
        """
        if self._bytes() + wanted > self._limit:
            self.before_dropping(self._connection)
        while self._bytes() + wanted > self._limit:
            first = self._connection.execute("SELECT min(key) FROM groups WHERE key <= ?", [newest]).fetchone()[0]
            if first is None:
                return
            until = first + (newest - first) // 16
            gone = "FROM groups WHERE key <= ?"
            for run, count in self._connection.execute(f"SELECT run_id, count(*) {gone} GROUP BY run_id", [until]):
                self.dropped[run] += count
            self._connection.execute("DELETE FROM trajectories WHERE group_key <= ?", [until])
            self._connection.execute(f"DELETE {gone}", [until])


class LogSource:
    """The audit log's file, read while it is written. One connection, opened when first needed."""

    kind: Kind = "audit"
    limit_bytes: int | None = None

    def __init__(self, path: Path) -> None:
        self.dropped: Counter[str | None] = Counter()
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection. Raises `NotAnAuditLog` when the file is gone or is something else."""
        with self._lock:
            yield self._connected()

    def bytes(self) -> int:
        """Return the file's size."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connected(self) -> sqlite3.Connection:
        """Return a connection to the file that is there now; it may have been moved away."""
        try:
            found = self._path.stat()
            now = found.st_dev, found.st_ino
        except OSError:
            now = None
        if self._connection is None or now != self._file:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._file = None, now
            self._connection = store.open_for_reading(self._path, any_thread=True)
        return self._connection
