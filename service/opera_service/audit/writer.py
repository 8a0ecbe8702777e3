"""Writes entries in the background: a bounded queue, one thread, and patience with a disk that has none.

`record` never waits. While the file cannot be written, entries wait up to the bound; past it they are lost, and
counted.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Literal

from opera_service.audit import store
from opera_service.audit.entries import Entry
from opera_service.audit.target import LogFile, Spoiled, Target

logger = logging.getLogger(__name__)

Loss = Literal["queue_full", "unwritten", "unwritable", "spoiled"]
"""Why trajectories are not in the log: it could not be written for too long; nor at the end; they never could;
they were written, and then something else wrote into that file (a copy of it may hold them)."""
BATCH = 256
"""Groups of one transaction at most."""


class AuditLog:
    """Used from any thread. `keep_sent` says whether entries are to hold what was sent."""

    def __init__(
        self,
        path: Path | Target,
        *,
        keep_sent: bool = False,
        max_bytes: int = 64 * 2**20,
        pauses_s: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 5.0),
        idle_s: float = 1.0,
        gather_s: float = 0.0,
        on_written: Callable[[], None] | None = None,
    ) -> None:
        """Open the file, or write to another target; `pauses_s` lie between tries to write, the last one for good.

        After `idle_s` without news all rows are in the main file, which can then be copied or moved away alone.
        Entries wait `gather_s` for others that are then written with them: less work, and not while the next
        request is read. `on_written` is called in the writing thread whenever entries have come to be in it.

        Raises `NotAnAuditLog`, and `sqlite3.OperationalError` when the file cannot be there at all. One that is
        only locked is waited for, in the background.
        """
        self._target = LogFile(path) if isinstance(path, Path) else path
        self.keep_sent = keep_sent
        self.written = 0
        """Trajectories that came to be in the file."""
        self.failures = 0
        """Tries to write that failed."""
        self.lost: Counter[Loss] = Counter()
        """Trajectories that are not and will not be in the file."""
        self._max_bytes = max_bytes
        self._pauses_s = pauses_s
        self._idle_s = idle_s
        self._gather_s = gather_s
        self._closed = threading.Event()
        self._waiting: deque[tuple[Entry, int]] = deque()
        self._waiting_bytes = 0
        self._news = threading.Condition()
        self._closing = False
        self._failing = False
        self._told = 0
        """Unwritten trajectories that were said to be lost."""
        self._on_written = on_written
        try:
            self._target.check()
        except sqlite3.OperationalError as error:
            if not _is_locked(error):
                raise
        self.thread = threading.Thread(target=self._run, name="opera-audit", daemon=True)
        self.thread.start()

    @property
    def waiting_bytes(self) -> int:
        """About what the entries that wait take in memory."""
        return self._waiting_bytes

    @property
    def ok(self) -> bool:
        """Whether the last try to write succeeded."""
        return not self._failing

    def record(self, entry: Entry) -> None:
        """Leave an entry to be written; returns at once."""
        size = entry.bytes
        with self._news:
            if self._closing:
                self._lose("unwritten", entry)
                return
            if self._waiting_bytes + size > self._max_bytes:
                self._lose("queue_full", entry)
                return
            self._waiting.append((entry, size))
            self._waiting_bytes += size
            self._news.notify()

    def close(self, *, within_s: float = 5.0) -> None:
        """Write what waits, for at most `within_s` seconds; the rest is lost, counted, and said in one line."""
        with self._news:
            self._closing = True
            self._closed.set()
            self._news.notify_all()
        self.thread.join(within_s)
        with self._news:
            self._give_up()
            if lost := self.lost["unwritten"] - self._told:
                self._told += lost
                logger.error("the audit log %s ends without %d trajectories that could not be written in time",
                             self._target, lost)  # fmt: skip

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next():
            self._persist(batch)
        self._forget()

    def _next(self) -> list[Entry]:
        """Wait for entries and take them; none when closing."""

        def called() -> bool:
            return bool(self._waiting) or self._closing

        with self._news:
            idle = not self._news.wait_for(called, self._idle_s)
        if idle:
            self._target.tidy()
        with self._news:
            self._news.wait_for(called)
        if self._gather_s:
            self._closed.wait(self._gather_s)
        with self._news:
            return [entry for entry, _ in islice(self._waiting, BATCH)]

    def _persist(self, batch: list[Entry]) -> None:
        """Write a batch, however long it takes; it counts as waiting until then. Once closing, one try more."""
        pauses = chain(self._pauses_s, repeat(self._pauses_s[-1]))
        while True:
            last_try = self._closing
            try:
                self._target.write(batch)
            except Spoiled as error:
                self._spoiled(error)
                continue
            except Exception as error:  # noqa: BLE001  whatever it is, the thread lives on
                self._forget()
                if not _may_pass(error):
                    self._one_by_one(batch, error)
                    return
                self._failed(error)
            else:
                self._settle(batch, written=True)
                return
            with self._news:
                if last_try:
                    self._give_up()
                    return
                self._news.wait_for(lambda: self._closing, next(pauses))

    def _forget(self) -> None:
        try:
            self._target.forget()
        except Spoiled as error:
            self._spoiled(error)

    def _spoiled(self, error: Spoiled) -> None:
        self.lost["spoiled"] += error.trajectories
        self.failures += 1
        logger.warning("the audit log %s was changed by something else: %s; %d trajectories were in it, "
                       "a new file is begun", self._target, error, error.trajectories)  # fmt: skip

    def _one_by_one(self, batch: list[Entry], error: Exception) -> None:
        """One of the batch cannot be written, ever: find it and go on without it."""
        if len(batch) > 1:
            for entry in batch:
                self._persist([entry])
            return
        logger.error("a group cannot be written to the audit log: %s", type(error).__name__)
        self._settle(batch, written=False)

    def _give_up(self) -> None:
        if self._waiting:
            self._lose("unwritten", *(entry for entry, _ in self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0

    def _settle(self, batch: list[Entry], *, written: bool) -> None:
        with self._news:
            if not self._waiting:
                return  # given up meanwhile, and counted
            for _ in batch:
                self._waiting_bytes -= self._waiting.popleft()[1]
            if written:
                self.written += sum(len(entry.members) for entry in batch)
            else:
                self._lose("unwritable", *batch)
        if written and self._failing:
            self._failing = False
            logger.warning("the audit log %s is written again; lost so far: %d", self._target, self.lost.total())
        if written and self._on_written is not None:
            self._on_written()

    def _lose(self, why: Loss, *entries: Entry) -> None:
        self.lost[why] += sum(len(entry.members) for entry in entries)

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if not self._failing:  # once an outage, not once a try
            self._failing = True
            logger.warning(
                "the audit log %s cannot be written: %s; answers are not affected, entries wait until there is no "
                "room for them", self._target, error,
            )  # fmt: skip


def _may_pass(error: Exception) -> bool:
    """Whether it is the file's fault (no room, a lock, no right, damage), not that of one entry."""
    return (
        isinstance(error, sqlite3.OperationalError | store.NotAnAuditLog | OSError)
        or type(error) is sqlite3.DatabaseError
    )


def _is_locked(error: sqlite3.OperationalError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
