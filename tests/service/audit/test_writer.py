"""Writing in the background: nothing waits for it, nothing is lost in silence, and it recovers."""

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from opera_service.audit import store
from opera_service.audit.store import NotAnAuditLog, Window, groups, open_for_reading
from opera_service.audit.target import LogFile
from opera_service.audit.writer import AuditLog

QUICK = (0.001,)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@contextmanager
def opened(path: Path, **options) -> Iterator[AuditLog]:
    log = AuditLog(path, pauses_s=QUICK, **options)
    try:
        yield log
    finally:
        log.close()


def steps(path: Path) -> list[int]:
    return [group["step"] for group, _ in groups(open_for_reading(path), Window())]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the file's write lock."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_closing_writes_everything_in_order(path: Path, entry):
    with opened(path) as log:
        for step in range(1000):
            log.record(entry(step=step))
    assert steps(path) == list(range(1000))
    assert (log.written, log.lost.total(), log.failures, log.waiting_bytes, log.ok) == (2000, 0, 0, 0, True)


class Noting(LogFile):
    """A file, and how many entries came to be in it at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.batches: list[int] = []

    def write(self, entries) -> None:
        super().write(entries)
        self.batches.append(len(entries))


def test_what_waits_for_others_is_written_with_them(path: Path, entry, until):
    target = Noting(path)
    log = AuditLog(target, gather_s=0.5)
    try:
        for step in range(3):
            log.record(entry(step=step))
        until(lambda: log.written == 6)
        assert target.batches == [3]
    finally:
        log.close()


def test_who_closes_waits_for_no_others(path: Path, entry):
    log = AuditLog(path, gather_s=3600)
    log.record(entry())
    log.close(within_s=20)
    assert (log.written, log.lost.total()) == (2, 0)


def test_many_threads_record(path: Path, entry):
    with opened(path) as log:
        writers = [threading.Thread(target=lambda: [log.record(entry()) for _ in range(50)]) for _ in range(8)]
        for one in writers:
            one.start()
        for one in writers:
            one.join()
    assert len(steps(path)) == 400


def test_a_locked_file_is_warned_about_once_and_written_when_it_is_free(path: Path, entry, until, caplog):
    caplog.set_level(logging.WARNING)
    with opened(path) as log:
        with locked(path):
            for step in range(3):
                log.record(entry(step=step))
            until(lambda: log.failures >= 2)
            assert not log.ok
            assert log.waiting_bytes > 0
        until(lambda: log.written == 6)
        assert log.ok
    assert steps(path) == [0, 1, 2]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "cannot be written: database is locked" in said[0]
    assert "written again" in said[1]


def test_what_has_no_room_while_locked_is_lost_and_counted(path: Path, entry, until):
    room = 2 * entry().bytes
    with opened(path, max_bytes=room) as log:
        with locked(path):
            for step in range(5):
                log.record(entry(step=step))
            assert log.lost == {"queue_full": 6}  # two groups wait, three with two trajectories each are lost
            assert log.waiting_bytes == room
        until(lambda: log.written == 4)
        log.record(entry(step=9))
    assert steps(path) == [0, 1, 9]


def test_an_entry_that_is_larger_than_the_queue_is_lost(path: Path, entry):
    with opened(path, max_bytes=1) as log:
        log.record(entry())
    assert log.lost == {"queue_full": 2}


def test_closing_while_locked_ends_and_counts(path: Path, entry):
    with opened(path) as log, locked(path):
        log.record(entry())
        log.close(within_s=60)
    assert (log.written, log.lost) == (0, {"unwritten": 2})
    log.record(entry())
    assert log.lost == {"unwritten": 4}


def test_a_start_with_a_locked_file_waits_for_it(path: Path, entry, until):
    AuditLog(path).close()
    with locked(path):
        log = AuditLog(path, pauses_s=QUICK)
        log.record(entry())
        until(lambda: log.failures >= 1)
    log.close()
    assert steps(path) == [3]


def test_an_entry_that_cannot_be_written_does_not_take_others_along(path: Path, entry):
    with opened(path) as log, locked(path):  # so that all come in one batch
        for step in (1, 2**80, 2):
            log.record(entry(step=step))
    assert steps(path) == [1, 2]
    assert (log.written, log.lost) == (4, {"unwritable": 2})


def test_a_file_moved_away_is_begun_anew(path: Path, entry, until):
    with opened(path, idle_s=0.001) as log:
        log.record(entry(step=1))
        until(lambda: log.written == 2)
        until(lambda: path.with_name("audit.db-wal").stat().st_size == 0)
        path.rename(path.with_name("old.db"))
        log.record(entry(step=2))
    assert steps(path) == [2]
    assert steps(path.with_name("old.db")) == [1]


def spoil_by_truncating(path: Path) -> None:
    os.truncate(path, 0)


def spoil_by_a_shorter_file(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(5000)


def spoil_by_text(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"mine " * 10_000)


def spoil_by_another_database(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE mine AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                           "LIMIT 20000) SELECT i FROM n")  # fmt: skip
        connection.commit()
    path.write_bytes(other.read_bytes())  # in place, as `cp` does


def spoil_the_pages_behind_the_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * (path.stat().st_size - 100))


@pytest.mark.parametrize("checkpointed", [True, False])
@pytest.mark.parametrize(
    "spoil",
    [spoil_by_truncating, spoil_by_a_shorter_file, spoil_by_text, spoil_by_another_database],
)
def test_a_file_that_something_else_wrote_into_is_set_aside_counted_and_begun_anew(
    path: Path, entry, until, caplog, spoil, checkpointed
):
    caplog.set_level(logging.WARNING)
    with opened(path, idle_s=0.001 if checkpointed else 60.0) as log:
        log.record(entry(step=1))
        until(lambda: log.written == 2)
        if checkpointed:
            until(lambda: path.with_name("audit.db-wal").stat().st_size == 0)
        spoil(path)
        left = path.read_bytes()
        for step in (2, 3):
            log.record(entry(step=step))
            until(lambda step=step: log.written == 2 * step)
    assert steps(path) == [2, 3]
    assert (log.lost, log.failures, log.ok) == ({"spoiled": 2}, 1, True)
    beside = [one.read_bytes() for one in path.parent.glob("audit.db.spoiled-*")]
    assert beside == ([left] if left else [])  # not a byte of ours was written into it
    assert caplog.text.count("was changed by something else") == 1


@pytest.mark.parametrize("spoil", [spoil_by_truncating, spoil_by_a_shorter_file, spoil_by_text])
def test_a_file_spoiled_before_the_log_is_closed_is_not_written_into(path: Path, entry, until, caplog, spoil):
    with opened(path, idle_s=60.0) as log:
        log.record(entry())
        until(lambda: log.written == 2)
        spoil(path)
        left = path.read_bytes()
    assert log.lost == {"spoiled": 2}
    assert [one.read_bytes() for one in path.parent.glob("audit.db.spoiled-*")] == ([left] if left else [])
    assert not path.exists()
    assert caplog.text.count("was changed by something else") == 1


def test_a_file_spoiled_while_writing_fails_is_set_aside_and_begun_anew(path: Path, entry, until, monkeypatch):
    def spoil_and_fail(*_: object) -> None:
        monkeypatch.undo()
        spoil_by_text(path)
        raise sqlite3.OperationalError("disk I/O error")

    with opened(path, idle_s=60.0) as log:
        log.record(entry(step=1))
        until(lambda: log.written == 2)
        monkeypatch.setattr(store, "write", spoil_and_fail)
        log.record(entry(step=2))
        until(lambda: log.written == 4)
    assert steps(path) == [2]
    assert (log.lost, log.failures) == ({"spoiled": 2}, 2)


def test_a_spoiled_file_that_cannot_be_moved_is_said_and_written_once_somebody_did(
    path: Path, entry, until, monkeypatch, caplog
):
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with opened(path, idle_s=60.0) as log:
        log.record(entry(step=1))
        until(lambda: log.written == 2)
        spoil_by_text(path)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", refused)
            log.record(entry(step=2))
            until(lambda: log.failures >= 3)
        assert "it cannot be moved aside (Operation not permitted)" in caplog.text
        path.rename(path.with_name("mine.txt"))
        until(lambda: log.written == 4)
    assert steps(path) == [2]
    assert log.lost == {"spoiled": 2}


def test_pages_spoiled_behind_the_header_are_found_when_they_are_written(path: Path, entry, until):
    with opened(path, idle_s=0.001) as log:
        log.record(entry(step=1))
        until(lambda: log.written == 2)
        until(lambda: path.with_name("audit.db-wal").stat().st_size == 0)
    spoil_the_pages_behind_the_header(path)
    with pytest.raises(NotAnAuditLog):  # a start says so at once
        AuditLog(path)


def test_what_is_not_written_in_time_at_the_end_is_counted_and_logged(path: Path, entry, caplog):
    with locked_at_end(path) as target:
        log = AuditLog(target, pauses_s=QUICK)
        for _ in range(3):
            log.record(entry())
        log.close(within_s=0.05)
        assert log.lost == {"unwritten": 6}
        assert "ends without 6 trajectories" in caplog.text
    log.thread.join(10)
    assert not log.thread.is_alive()


@contextmanager
def locked_at_end(path: Path) -> Iterator[LogFile]:
    """A disk that does not return from writing until the block ends."""
    free = threading.Event()

    class Slow(LogFile):
        def write(self, entries) -> None:
            free.wait(30)
            super().write(entries)

    try:
        yield Slow(path)
    finally:
        free.set()


def test_an_existing_file_is_closed_to_others(path: Path):
    AuditLog(path).close()
    path.chmod(0o644)
    AuditLog(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_whose_mode_cannot_be_tightened_is_refused(path: Path, monkeypatch):
    AuditLog(path).close()
    path.chmod(0o644)

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(NotAnAuditLog, match="can be read by others"):
        AuditLog(path)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.write_text("mine " * 1000), NotAnAuditLog),
        (lambda path: path.mkdir(), sqlite3.OperationalError),
        (os.mkfifo, NotAnAuditLog),
    ],
)
def test_a_path_that_cannot_be_a_log_is_refused_at_once(path: Path, make, error):
    make(path)
    with pytest.raises(error):
        AuditLog(path)
