"""The SQLite file: opening it, writing entries, reading windows of groups.

Knows SQL; no queue, no thread, no command.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_service.audit.entries import Entry
from opera_service.audit.schema import APPLICATION, VERSION, make_tables, pragma

HEADER_BYTES = 100
"""A SQLite file begins with them: 16 bytes of name, the application id at 68 (sqlite.org/fileformat.html)."""


class NotAnAuditLog(Exception):
    """The file is something else, or another version of this; the message says which."""


def open_for_writing(path: Path, *, busy_s: float = 1.0) -> sqlite3.Connection:
    """Open the log, making it for its owner's eyes only if need be; readers may read meanwhile (WAL).

    A file that others may read is closed to them first: it holds prompts and answers.

    Raises `NotAnAuditLog`, and `sqlite3.Error` for what may pass: no space, no right, a lock.
    """
    with suppress(OSError):  # SQLite says better what is wrong with the path
        path.touch(mode=0o600)
    _for_its_owner_only(path)
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
    try:
        _check(connection, path, new=True)
        make_tables(
            connection
        )  # before the write-ahead file is used, so that the main file is known by its header
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:  # whatever it is, nobody else holds the connection
        connection.close()
        raise
    return connection


def _for_its_owner_only(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # SQLite says what is wrong with the path
    if not stat.S_ISREG(mode):
        if stat.S_ISDIR(mode):
            return
        raise NotAnAuditLog(f"{path} is no regular file; name another")
    if mode & 0o077:
        try:
            path.chmod(0o600)
        except OSError as error:
            raise NotAnAuditLog(
                f"{path} can be read by others (mode {stat.S_IMODE(mode):03o}) and its mode cannot be changed "
                f"({error.strerror}); it is to hold prompts and answers: make it 600, or name another file"
            ) from None


def is_header(head: bytes) -> bool:
    """Whether the first `HEADER_BYTES` of a file are those of an audit log."""
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION.to_bytes(4, "big")


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether SQLite found something else in the file than it had written."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def open_for_reading(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """Open an existing log; rows come by column name. With `any_thread`, its users take turns.

    Raises `NotAnAuditLog`.
    """
    if not path.is_file():
        raise NotAnAuditLog(f"there is no file {path}")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0, check_same_thread=not any_thread
    )
    try:
        _check(connection, path, new=False)
    except sqlite3.Error as error:
        connection.close()
        raise NotAnAuditLog(f"{path} cannot be read: {error}") from None
    except NotAnAuditLog:
        connection.close()
        raise
    connection.row_factory = sqlite3.Row
    return connection


def _check(connection: sqlite3.Connection, path: Path, *, new: bool) -> None:
    try:
        version, application = pragma(connection, "user_version"), pragma(connection, "application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise NotAnAuditLog(f"{path} is not an audit log: {error}") from None
    if new and not tables:
        return
    if application != APPLICATION:
        raise NotAnAuditLog(f"{path} is a database, but not an audit log")
    if not 0 < version <= VERSION:
        raise NotAnAuditLog(f"{path} has version {version} of the tables; this program knows {VERSION}")


def size(connection: sqlite3.Connection) -> int:
    """Return how many bytes the main file has once every committed row is in it."""
    return pragma(connection, "page_count") * pragma(connection, "page_size")


def checkpoint(connection: sqlite3.Connection, mode: str) -> bool:
    """Move rows from the write-ahead file into the main file; return whether all of them were moved.

    `mode` is SQLite's: `PASSIVE` waits for nobody, `TRUNCATE` waits for readers and empties the write-ahead file.
    """
    busy, ahead, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return not busy and bool(ahead == moved)


def write(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Add entries in one transaction: all of them or none. Raises `sqlite3.Error`."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for entry in entries:
            key = _insert(connection, "groups", entry.group_row())
            rows = [{"group_key": key, **row} for row in entry.trajectory_rows()]
            if rows:
                connection.executemany(_inserting("trajectories", rows[0]), [tuple(row.values()) for row in rows])
            if not all(one.fresh for one in entry.members):
                connection.execute(_SUPERSEDE, (entry.run_id, entry.step, entry.group_id, key))
        connection.execute("COMMIT")
    except BaseException:  # whatever it is, half a group must not stay
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


_SUPERSEDE = (
    "UPDATE groups SET superseded = 1 "
    "WHERE run_id IS ? AND step IS ? AND group_id = ? AND key < ? AND NOT superseded"
)
"""A group that is scored again with a member that came late takes the place of what it was."""


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, object]) -> int | None:
    with closing(connection.execute(_inserting(table, row), tuple(row.values()))) as done:
        return done.lastrowid


def _inserting(table: str, row: Iterable[str]) -> str:
    columns = list(row)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


@dataclass(frozen=True)
class Window:
    """Which groups; each bound is inclusive, None is open."""

    run_id: str | None = None
    first_step: int | None = None
    last_step: int | None = None
    since: float | None = None
    """Unix seconds."""
    last: int | None = None
    """Only the newest so many groups of those."""

    @property
    def where(self) -> tuple[str, list[Any]]:
        """The condition on `groups` in SQL, and its values."""
        asked = {
            "run_id = ?": self.run_id,
            "step >= ?": self.first_step,
            "step <= ?": self.last_step,
            "time >= ?": self.since,
        }
        parts = {part: value for part, value in asked.items() if value is not None}
        condition, values = " AND ".join(parts) or "TRUE", list(parts.values())
        if self.last is not None:
            newest = f"SELECT key FROM groups WHERE {condition} ORDER BY key DESC LIMIT ?"
            return f"key IN ({newest})", [*values, self.last]
        return condition, values


def groups(connection: sqlite3.Connection, window: Window) -> Iterator[tuple[sqlite3.Row, list[sqlite3.Row]]]:
    """Yield the groups of a window, oldest first, each with its trajectories in order."""
    where, values = window.where
    for group in connection.execute(f"SELECT * FROM groups WHERE {where} ORDER BY key", values):
        members = connection.execute(
            "SELECT * FROM trajectories WHERE group_key = ? ORDER BY position", [group["key"]]
        )
        yield group, members.fetchall()


def if_kept(row: sqlite3.Row, column: str) -> Any:
    """Return a column that logs of an earlier version, opened for reading, have not got: None there."""
    return row[column] if column in row.keys() else None  # noqa: SIM118  a Row is no dict


def count(connection: sqlite3.Connection, window: Window) -> int:
    """Return how many groups a window has."""
    where, values = window.where
    return int(connection.execute(f"SELECT count(*) FROM groups WHERE {where}", values).fetchone()[0])


def component_names(connection: sqlite3.Connection, window: Window) -> list[str]:
    """Return every component that a trajectory of the window has, sorted."""
    where, values = window.where
    found = connection.execute(
        "SELECT DISTINCT one.key FROM trajectories, json_each(components) AS one "
        f"WHERE group_key IN (SELECT key FROM groups WHERE {where}) ORDER BY one.key",
        values,
    )
    return [row[0] for row in found]
