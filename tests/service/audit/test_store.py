"""The file: what goes in comes out, windows, and files that are something else."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_service.audit.entries import NOTHING, SECOND
from opera_service.audit.store import (
    NotAnAuditLog,
    Window,
    component_names,
    count,
    groups,
    if_kept,
    open_for_reading,
    open_for_writing,
    write,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def put(path: Path, *entries) -> sqlite3.Connection:
    connection = open_for_writing(path)
    write(connection, entries)
    connection.close()
    return open_for_reading(path)


def test_everything_comes_back(path: Path, entry):
    ((group, members),) = groups(put(path, entry()), Window())
    assert {name: group[name] for name in group.keys() if name != "key"} == {  # noqa: SIM118  a Row is no dict
        "time": 1767225600.5, "request_id": "r-1", "run_id": "run", "step": 3, "group_id": "g", "task": "open",
        "reward": "opera", "preset": "hardened", "config": '{"final": "thought"}', "config_hash": "abc",
        "model": "demo", "revision": "sha256:0", "weight_version": "7", "dtype": "float32", "engine": "torch",
        "initial_mean_logprob": -2.0, "prompt": '[{"role": "user", "content": "why? 为什么"}]',
        "prompt_is_messages": 1, "prompt_token_ids": None, "reference": "because", "reference_token_ids": "[9]",
        "reference_tokens": 1, "expected": None, "diagnostics": '{"margin": 0.1}', "superseded": 0,
        "second_model": None, "second_revision": None, "second_weight_version": None,
    }  # fmt: skip
    assert [dict(zip(one.keys(), one, strict=True)) for one in members] == [
        {
            "group_key": 1, "position": 0, "id": "a", "fresh": 1, "status": "ok", "reward": 0.75,
            "components": '{"relative": 1.0, "reflection": -0.5}', "mean_logprob": -1.5, "flags": '["repetition"]',
            "error": None, "response": "a thought", "response_token_ids": "[1,2,3]", "response_tokens": 3,
            "segments": '[{"index":0,"start":0,"end":2,"text":"a","reflective":true,'
                '"mean_logprob":-1.5,"gain":0.5,"credited":true}]',
            "turns": None, "response_mask": None,
        },
        {
            "group_key": 1, "position": 1, "id": "b", "fresh": 1, "status": "error", "reward": None,
            "components": None, "mean_logprob": None, "flags": "[]", "error": "empty_response", "response": "",
            "response_token_ids": None, "response_tokens": None, "segments": None,
            "turns": None, "response_mask": None,
        },
    ]  # fmt: skip


def test_a_prompt_that_is_text_and_one_that_is_not_kept(path: Path, entry):
    connection = put(path, entry(prompt=entry().reference), entry(prompt=NOTHING, reference=NOTHING))
    (first, _), (second, _) = groups(connection, Window())
    assert (first["prompt"], first["prompt_is_messages"], first["prompt_token_ids"]) == ("because", 0, "[9]")
    assert (second["prompt"], second["prompt_is_messages"], second["reference"]) == (None, 0, None)


@pytest.mark.parametrize(
    ("window", "steps"),
    [
        (Window(), [1, 2, 3, 4]),
        (Window(run_id="even"), [2, 4]),
        (Window(first_step=2, last_step=3), [2, 3]),
        (Window(since=3.0), [3, 4]),
        (Window(last=1), [4]),
        (Window(run_id="odd", last=1), [3]),
        (Window(run_id="nobody"), []),
        (Window(last=0), []),
    ],
)
def test_windows(path: Path, entry, window: Window, steps: list[int]):
    entries = [entry(step=step, time=float(step), run_id="odd" if step % 2 else "even") for step in (1, 2, 3, 4)]
    connection = put(path, *entries)
    assert [group["step"] for group, _ in groups(connection, window)] == steps
    assert count(connection, window) == len(steps)
    assert component_names(connection, window) == (["reflection", "relative"] if steps else [])


def test_a_batch_is_written_whole_or_not_at_all(path: Path, entry):
    connection = open_for_writing(path)
    with pytest.raises(OverflowError):
        write(connection, [entry(), entry(step=2**80)])
    write(connection, [entry(step=5)])
    assert [group["step"] for group, _ in groups(open_for_reading(path), Window())] == [5]


def test_reading_goes_on_while_it_is_written(path: Path, entry):
    writer = open_for_writing(path)
    write(writer, [entry()])
    reader = open_for_reading(path)
    reading = groups(reader, Window())
    next(reading)
    write(writer, [entry()])
    assert count(reader, Window()) >= 1
    assert writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_only_its_owner_may_read_it(path: Path, entry):
    connection = open_for_writing(path)
    write(connection, [entry()])
    assert {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {
        "audit.db": 0o600, "audit.db-wal": 0o600, "audit.db-shm": 0o600,
    }  # fmt: skip


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")


def newer(path: Path) -> None:
    open_for_writing(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("not a database " * 100), "not an audit log"),
        (foreign, "a database, but not an audit log"),
        (newer, "version 99"),
    ],
)
@pytest.mark.parametrize("opening", [open_for_reading, open_for_writing])
def test_other_files_are_left_alone(path: Path, make, said, opening):
    make(path)
    before = path.read_bytes()
    with pytest.raises(NotAnAuditLog, match=said):
        opening(path)
    assert path.read_bytes() == before


def test_reading_makes_no_file(path: Path):
    with pytest.raises(NotAnAuditLog, match="there is no file"):
        open_for_reading(path)
    assert not path.exists()


texts = st.text(max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts, st.lists(st.integers(0, 2**31)), finite, st.dictionaries(texts, finite, max_size=3), st.lists(texts))
def test_any_text_and_number_comes_back(entry, tmp_path_factory, text, ids, number, parts, flags):
    from opera_service.audit.entries import Sent

    member = entry().members[0]
    changed = {"reward": number, "components": parts, "flags": tuple(flags), "response": Sent(text, ids)}
    member = type(member)(**{**vars(member), **changed})
    connection = put(tmp_path_factory.mktemp("any") / "audit.db", entry(members=(member,), group_id=text))
    ((group, (row,)),) = groups(connection, Window())
    assert group["group_id"] == row["response"] == text
    assert row["reward"] == number
    assert json.loads(row["components"]) == parts
    assert json.loads(row["flags"]) == flags
    assert json.loads(row["response_token_ids"]) == ids


def test_thoughts_come_without_their_text_where_texts_are_not_kept(path: Path, entry):
    ((_, members),) = groups(put(path, entry(prompt=NOTHING, reference=NOTHING)), Window())
    assert [set(one) for one in json.loads(members[0]["segments"])] == [
        {"index", "start", "end", "reflective", "mean_logprob", "gain", "credited"}
    ]


def test_a_group_scored_again_for_a_late_member_takes_the_place_of_what_it_was(path: Path, entry):
    first, late = entry(), entry(members=(replace(entry().members[0], fresh=False), entry().members[1]))
    other = [entry(group_id="other"), entry(step=4), entry(run_id=None)]
    found = groups(put(path, first, *other, late), Window())
    assert [group["superseded"] for group, _ in found] == [1, 0, 0, 0, 0]


def test_what_it_was_compared_with_is_named(path: Path, entry):
    put(path, entry(), entry(group_id="pair", second=("before", "sha256:1", "0")))
    found = {group["group_id"]: group for group, _ in groups(open_for_reading(path), Window())}
    assert [found["pair"][name] for name in SECOND] == ["before", "sha256:1", "0"]
    assert [found["g"][name] for name in SECOND] == [None] * 3


def test_a_log_of_the_first_version_is_read_and_gets_the_new_columns_when_written(path: Path, entry):
    old = sqlite3.connect(path)
    old.executescript(VERSION_1)
    old.close()
    assert count(open_for_reading(path), Window()) == 1
    assert if_kept(open_for_reading(path).execute("SELECT * FROM groups").fetchone(), "turns") is None
    *_, (group, _) = groups(put(path, entry()), Window())
    assert (group["group_id"], group["reference_tokens"]) == ("g", 1)
    assert group["second_model"] is None
    assert count(open_for_reading(path), Window()) == 2


VERSION_1 = """
CREATE TABLE groups (
  key INTEGER PRIMARY KEY, time REAL NOT NULL, request_id TEXT, run_id TEXT, step INTEGER, group_id TEXT NOT NULL,
  task TEXT NOT NULL, reward TEXT NOT NULL, preset TEXT NOT NULL, config TEXT NOT NULL, config_hash TEXT NOT NULL,
  model TEXT NOT NULL, revision TEXT NOT NULL, weight_version TEXT NOT NULL, dtype TEXT NOT NULL,
  engine TEXT NOT NULL, initial_mean_logprob REAL, prompt TEXT, prompt_is_messages INTEGER NOT NULL,
  prompt_token_ids TEXT, reference TEXT, reference_token_ids TEXT
);
CREATE TABLE trajectories (
  group_key INTEGER NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, fresh INTEGER NOT NULL,
  status TEXT NOT NULL, reward REAL, components TEXT, mean_logprob REAL, flags TEXT NOT NULL, error TEXT,
  response TEXT, response_token_ids TEXT, PRIMARY KEY (group_key, position)
) WITHOUT ROWID;
INSERT INTO groups VALUES (1, 1.0, NULL, 'old', 1, 'old', 'open', 'opera', 'paper', '{}', 'x', 'demo', 'r', '0',
  'float32', 'torch', NULL, NULL, 0, NULL, NULL, NULL);
PRAGMA application_id = 1330660690; PRAGMA user_version = 1;
"""
