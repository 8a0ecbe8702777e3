"""`opera-reward audit`: a log written by the real app, exported and scored again."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from opera_service.audit.command import run
from opera_service.server.app import create_app
from opera_service.server.settings import Settings

from ..live import live

RESPONSES = ["<think>\nIt is 42.\n\n</think>\n\n42", "<think>\nIt is 24.\n\nWait, 42.\n\n</think>\n\n42", ""]


async def ask(path: Path, steps: int, settings: dict, groups: list) -> None:
    app = create_app(Settings(engine="dummy", audit=path, **settings))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        for step in range(steps):
            trajectories = [{"id": f"t{at}", "response": text} for at, text in enumerate(RESPONSES)]
            group = {"prompt": f"What is {step}?", "reference": f"{step}", "trajectories": trajectories}
            body = {"run_id": f"run{step % 2}", "step": step, "groups": [{"group_id": f"g{step}", **group}]}
            assert (await client.post("/reward", json=body)).status_code == 200
        if groups:
            answer = (await client.post("/reward", json={"reward": "igpo", "groups": groups})).json()
            assert [len(one["steps"]) for group in answer["groups"] for one in group["trajectories"]] == [2, 2]


@pytest.fixture(autouse=True)
def _no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPERA_REWARD_URL", "OPERA_AUDIT"):
        monkeypatch.delenv(name, raising=False)


def log(path: Path, steps: int = 4, groups: list = [], **settings) -> str:  # noqa: B006  read only
    asyncio.run(ask(path, steps, {"audit_texts": True, **settings}, groups))
    return str(path)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> str:
    return log(tmp_path_factory.mktemp("audit") / "audit.db")


def test_export(logged: str, tmp_path: Path, capsys):
    out = tmp_path / "out.parquet"
    assert run(["export", logged, "-o", str(out), "--steps", "1:2"]) == 0
    assert capsys.readouterr().out == f"{out}: 6 trajectories\n"
    rows = pq.read_table(out).to_pylist()
    assert [(row["step"], row["run_id"], row["position"]) for row in rows] == [
        (1, "run1", 0), (1, "run1", 1), (1, "run1", 2), (2, "run0", 0), (2, "run0", 1), (2, "run0", 2),
    ]  # fmt: skip
    first, failed = rows[0], rows[2]
    assert (first["trajectory_id"], first["status"], first["fresh"], first["flags"]) == (
        "t0",
        "ok",
        True,
        ["no_spread"],
    )
    assert (first["prompt"], first["reference"], first["response"]) == ("What is 1?", "1", RESPONSES[0])
    assert (first["reward_name"], first["preset"], first["weight_version"]) == ("opera", "hardened", "0")
    assert first["reward"] > 0
    assert 0 <= first["components.relative"] <= 1
    assert abs((datetime.now(UTC) - first["time"]).total_seconds()) < 3600
    assert (failed["status"], failed["error"], failed["reward"], failed["components.relative"]) == (
        "error", "empty_response", None, None,
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_an_empty_window_is_an_empty_file(logged: str, tmp_path: Path):
    assert run(["export", logged, "-o", str(tmp_path / "none.parquet"), "--run", "nobody"]) == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_the_same_model_changes_nothing(logged: str, capsys):
    assert run(["replay", logged, "--engine", "dummy"]) == 0
    said = capsys.readouterr().out
    assert "4 groups were scored by dummy (dummy, float64), weight version 0" in said
    assert "0 of 8 rewards changed" in said
    assert "Largest changes" not in said


def test_another_model_changes_numbers_and_they_are_written(logged: str, tmp_path: Path, capsys):
    out = tmp_path / "out.jsonl"
    assert run(["replay", logged, "--engine", "torch", "--run", "run1", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "and are scored again by demo (torch, float32), weight version 0" in said
    assert "4 of 4 rewards changed" in said
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["step"], row["id"]) for row in rows] == [(s, f"t{t}") for s in (1, 3) for t in range(3)]
    assert rows[0]["then"]["reward"] != rows[0]["now"]["reward"]
    assert (rows[2]["then"], rows[2]["now"], rows[2]["why"]) == (None, None, "empty_response")


def test_turns_and_masks_are_kept_and_scored_again(tmp_path: Path, capsys):
    turns = [{"role": "assistant", "content": "<think>a</think>look"}, {"role": "tool", "content": "42"},
             {"role": "assistant", "token_ids": [65, 66], "name": "b"}]  # fmt: skip
    masked = {"response_token_ids": [65, 66, 67, 68], "response_mask": [1, 0, 0, 1]}
    group = {"prompt": [{"role": "user", "content": "?"}], "reference": "42"}
    group |= {"group_id": "g", "trajectories": [{"turns": turns}, masked]}
    path = log(tmp_path / "audit.db", steps=0, groups=[group])
    assert run(["replay", path, "--engine", "dummy"]) == 0
    assert "0 of 2 rewards changed" in capsys.readouterr().out
    out = tmp_path / "out.parquet"
    assert run(["export", path, "-o", str(out)]) == 0
    rows = pq.read_table(out).to_pylist()
    assert json.loads(rows[0]["turns"]) == [turns[0], turns[1], {**turns[2], "content": ""}]
    assert rows[0]["response"] == "[assistant]\n<think>a</think>look\n\n[tool]\n42"
    assert (rows[1]["response_token_ids"], rows[1]["response_mask"]) == ([65, 66, 67, 68], [1, 0, 0, 1])


def test_a_running_service_can_be_asked(logged: str, monkeypatch: pytest.MonkeyPatch, capsys):
    with live("--engine", "dummy", "--weight-version", "99") as server:
        assert run(["replay", logged, "--url", server.url, "--last", "1"]) == 0
        monkeypatch.setenv("OPERA_REWARD_URL", server.url)
        assert run(["replay", logged, "--last", "1"]) == 0
    said = capsys.readouterr().out
    assert said.count("scored again by dummy (dummy, float64), weight version 99") == 2
    assert said.count("0 of 2 rewards changed") == 2


def test_replaying_does_not_log_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = log(tmp_path / "audit.db", steps=1)
    monkeypatch.setenv("OPERA_AUDIT", path)
    assert run(["replay", path, "--engine", "dummy"]) == 0
    assert run(["export", path, "-o", str(tmp_path / "out.parquet")]) == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 3


def test_what_was_not_kept_cannot_be_replayed(tmp_path: Path, capsys):
    path = log(tmp_path / "audit.db", audit_texts=False)
    assert run(["replay", path, "--engine", "dummy"]) == 1
    assert "8 trajectories not scored again: texts_not_kept (record with --audit-texts)" in capsys.readouterr().out


def test_a_group_whose_preset_is_gone_fails_alone(tmp_path: Path, capsys):
    import sqlite3

    path = log(tmp_path / "audit.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE groups SET preset = 'gone' WHERE step = 1")
    assert run(["replay", path, "--engine", "dummy"]) == 1
    said = capsys.readouterr().out
    assert "0 of 6 rewards changed" in said
    assert "2 trajectories not scored again: invalid_request." in said


def test_another_configuration_under_the_same_name_is_said(tmp_path: Path, capsys):
    import sqlite3

    path = log(tmp_path / "audit.db")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE groups SET config_hash = 'older' WHERE step < 3")
    assert run(["replay", path, "--engine", "dummy"]) == 0
    assert "In 3 groups, reward and preset mean another configuration" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["replay", "LOG", "--run", "nobody"], 2, "no such groups"),
        (["replay", "/nowhere.db"], 2, "there is no file /nowhere.db"),
        (["export", "/nowhere.db", "-o", "x.parquet"], 2, "there is no file /nowhere.db"),
        (["export", "LOG", "-o", "/nowhere/x.parquet"], 2, "cannot write /nowhere/x.parquet"),
        (["replay", "LOG", "-o", "/nowhere/x.jsonl"], 2, "cannot write /nowhere/x.jsonl"),
        (["replay", "LOG", "--url", "http://127.0.0.1:9"], 3, "127.0.0.1:9"),
        (["replay", "LOG", "--url", "http://127.0.0.1:9", "--model", "m"], 2, "--url"),
        (["replay", "LOG", "--model", "/nowhere/model"], 2, "/nowhere/model"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(logged: str, capsys, argv: list[str], code: int, said: str):
    assert run([logged if part == "LOG" else part for part in argv]) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"opera-reward audit {argv[0]}: ")
    assert said in line


@pytest.mark.parametrize("verb", [["export"], ["replay", "--engine", "dummy"]])
def test_the_log_is_never_written_over(logged: str, tmp_path: Path, capsys, verb: list[str]):
    other = tmp_path / "same.db"
    other.symlink_to(logged)
    before = Path(logged).read_bytes()
    for out in (logged, str(other)):
        assert run([*verb, logged, "-o", out]) == 2
        assert "is the log itself; choose another -o" in capsys.readouterr().err
    assert Path(logged).read_bytes() == before


@pytest.mark.parametrize("flags", [["--steps", "a:b"], ["--since", "noon"], ["--last", "0"], ["--colour", "red"]])
def test_bad_usage_is_two(logged: str, flags: list[str], capsys):
    assert run(["replay", logged, *flags]) == 2
    assert flags[0] in capsys.readouterr().err
