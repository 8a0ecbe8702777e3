"""`opera-reward score --ray` as a user meets it: killed and run again, every result is there once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from .conftest import group

COMMAND = [sys.executable, "-m", "opera_cli", "score"]
ASKED = ["--engine", "dummy", "--detail", "reward", "--config", "context.bridge="]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPERA_", "RAY_ADDRESS"))}
    return kept | {"COLUMNS": "100"}


def score(*argv: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *map(str, argv), *ASKED], capture_output=True, text=True, check=False, env=environment()
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def write(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def flat(numbers: range) -> list[dict]:
    """Rows of groups, all mixed up."""
    rows = []
    for number in numbers:
        whole = group(number)
        shared = {name: whole[name] for name in ("group_id", "prompt", "reference")}
        rows += [{**shared, **one} for one in whole["trajectories"]]
    random.Random(7).shuffle(rows)
    return rows


@pytest.mark.timeout(290)
def test_twenty_thousand_trajectories_killed_and_resumed_are_those_of_the_serial_run(tmp_path):
    groups = [group(number, 8) for number in range(2500)]
    source = write(tmp_path / "in.jsonl", groups)
    out, parts = tmp_path / "out.jsonl", tmp_path / "out.jsonl.parts"
    process = subprocess.Popen(
        [*COMMAND, str(source), "-o", str(out), "--ray", *ASKED],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    while len(list(parts.glob("part-*.jsonl"))) < 40:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    before = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*.jsonl")}
    assert 40 <= len(before) < 256
    done = score(source, "-o", out, "--ray")
    assert done.returncode == 0, done.stderr
    assert "going on after" in done.stderr
    assert "2500 done" in done.stderr
    assert "20000 trajectories scored" in done.stderr
    assert not parts.exists()
    serial = tmp_path / "serial.jsonl"
    assert score(source, "-o", serial).returncode == 0
    assert out.read_bytes() == serial.read_bytes()
    ids = [(one["group_id"], t["id"]) for one in map(json.loads, out.open()) for t in one["trajectories"]]
    assert ids == [(one["group_id"], t["id"]) for one in groups for t in one["trajectories"]]
    assert len(set(ids)) == 20_000


def test_rows_all_mixed_up_and_parquet_in_and_out_are_as_without_ray(tmp_path):
    rows = flat(range(40))
    source = tmp_path / "in.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), source, row_group_size=50)
    for out in ("out.parquet", "serial.parquet"):
        done = score(source, "-o", tmp_path / out, *(["--ray"] if out == "out.parquet" else []))
        assert done.returncode == 0, done.stderr
    tables = [parquet.read_table(tmp_path / name).to_pylist() for name in ("out.parquet", "serial.parquet")]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 40


def test_a_folder_in_and_a_folder_out(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        groups = [group(each) for each in range(20 * number, 20 * number + 20)]
        write(tmp_path / "in" / f"{number}.jsonl", groups)
    done = score(tmp_path / "in", "-o", tmp_path / "out", "--ray", "--workers", 1)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for part in sorted((tmp_path / "out").glob("part-*.jsonl")) for line in part.open()]
    assert [one["group_id"] for one in found] == [f"g{number}" for number in range(60)]
    # Once more: everything is there. With another question: refused.
    assert "going on after 60 of 60" in score(tmp_path / "in", "-o", tmp_path / "out", "--ray").stderr
    other = score(tmp_path / "in", "-o", tmp_path / "out", "--ray", "--preset", "paper")
    assert other.returncode == 2
    assert 'begun with preset "hardened", not "paper"' in other.stderr
    (tmp_path / "in" / "0.jsonl").touch()
    other = score(tmp_path / "in", "-o", tmp_path / "out", "--ray")
    assert other.returncode == 2
    assert "begun with input" in other.stderr


def test_what_is_wrong_is_one_line_before_anything_is_scored(tmp_path):
    groups = [group(number) for number in range(200)]
    source = write(tmp_path / "in.jsonl", groups)
    lines = source.read_text().splitlines(keepends=True)
    lines[150] = lines[150].replace('"reference"', '"referense"')
    source.write_text("".join(lines))
    done = score(source, "-o", tmp_path / "out.jsonl", "--ray")
    assert done.returncode == 2
    assert "in.jsonl, line 151: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    for argv, said in (
        ([source, "--ray"], "--ray needs -o"),
        ([source, "-o", tmp_path / "o.jsonl", "--ray", "--url", "http://127.0.0.1:1"], "leave --url"),
        ([tmp_path / "none.jsonl", "-o", tmp_path / "o.jsonl", "--ray"], "does not exist"),
    ):
        done = score(*argv)
        assert done.returncode == 2
        assert said in done.stderr
