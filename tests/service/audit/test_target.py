"""The file itself, without thread and queue: what is known of it, and when rows come to be in the main file."""

import os
from pathlib import Path

import pytest

from opera_service.audit import store
from opera_service.audit.store import Window, groups, open_for_reading
from opera_service.audit.target import CHECKPOINT_BYTES, LogFile, Spoiled


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def rows(path: Path) -> int:
    return len(list(groups(open_for_reading(path), Window())))


@pytest.mark.parametrize("bytes_left", [0, 5000])
def test_what_is_cut_short_at_the_very_end_of_a_checkpoint_is_noticed(path: Path, entry, monkeypatch, bytes_left):
    """Once believed to be as long as it was meant to be: what the file had after the checkpoint was looked up."""
    target = LogFile(path)
    target.write([entry()])
    checkpoint = store.checkpoint

    def checkpoint_and_spoil(*arguments) -> bool:
        done = checkpoint(*arguments)
        os.truncate(path, bytes_left)
        return done

    monkeypatch.setattr(store, "checkpoint", checkpoint_and_spoil)
    target.tidy()
    with pytest.raises(Spoiled, match="it was truncated from") as caught:
        target.write([entry()])
    assert caught.value.trajectories == 2


def test_rows_move_into_the_main_file_when_it_is_time_and_are_then_missed(path: Path, entry):
    target = LogFile(path)
    large = entry()
    target.write([large])
    made = path.stat().st_size
    target.write([large] * (CHECKPOINT_BYTES // large.bytes))
    assert path.stat().st_size > 10 * made
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)
    with pytest.raises(Spoiled, match="truncated"):
        target.write([large])


def test_a_reader_that_stays_keeps_rows_ahead_and_nothing_is_taken_for_spoiled(path: Path, entry):
    target = LogFile(path)
    large = entry()
    target.write([large])
    reader = open_for_reading(path)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM groups").fetchone()[0] == 1
    count = CHECKPOINT_BYTES // large.bytes
    for _ in range(2):
        target.write([large] * count)
        target.write([large])  # raises `Spoiled` where what stands ahead is missed in the main file
    reader.close()
    target.tidy()
    target.forget()
    assert rows(path) == 2 * count + 3
    assert path.stat().st_size > CHECKPOINT_BYTES // 4
