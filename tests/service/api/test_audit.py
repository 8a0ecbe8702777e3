"""What the API leaves in the audit log, by setting, and a start that cannot have one."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from opera_service.audit.store import Window, groups, open_for_reading
from opera_service.server.app import create_app
from opera_service.server.settings import Settings, SettingsError

from ..app import opened
from .conftest import group

SECRET = "xylophone-marmalade"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def read(path: Path) -> list:
    return list(groups(open_for_reading(path), Window()))


async def test_every_trajectory_of_an_answer_is_in_the_log(path: Path):
    bad = {"group_id": "bad", "prompt": [{"role": "user", "content": "?"}], "reference": "x"}
    bad["trajectories"] = [{"response": ""}, {"response_token_ids": [65, 66]}]
    body = {
        "run_id": "r",
        "step": 4,
        "preset": "hardened-1",
        "config": {"final": "response"},
        "groups": [group(), bad],
    }
    async with opened(audit=path, audit_texts=True) as client:
        response = await client.post("/reward", json=body, headers={"X-Request-Id": "mine-1"})
        assert (await client.post("/reward", json={"groups": []})).status_code == 422
    answer = response.json()
    logged = read(path)
    assert [one["group_id"] for one, _ in logged] == ["q1", "bad"]
    for (row, members), told in zip(logged, answer["groups"], strict=True):
        assert (row["request_id"], row["run_id"], row["step"], row["config"]) == (
            "mine-1", "r", 4, '{"final": "response"}',
        )  # fmt: skip
        assert (row["config_hash"], row["weight_version"], row["model"], row["engine"]) == (
            answer["config_hash"], "0", "dummy", "dummy",
        )  # fmt: skip
        assert row["initial_mean_logprob"] == told["initial_mean_logprob"]
        for one, trajectory in zip(members, told["trajectories"], strict=True):
            assert one["fresh"] == 1
            for name in ("id", "status", "reward", "mean_logprob"):
                assert one[name] == trajectory[name]
            assert json.loads(one["components"] or "null") == trajectory["components"]
            assert one["error"] == (trajectory["error"] or {}).get("code")
    first, second = logged
    assert (first[0]["prompt"], first[0]["reference"]) == (group()["prompt"], "42")
    assert [one["response"] for one in first[1]] == [one["response"] for one in group()["trajectories"]]
    assert json.loads(second[0]["prompt"]) == bad["prompt"]
    assert [(one["response"], one["response_token_ids"]) for one in second[1]] == [("", None), (None, "[65,66]")]


async def test_thoughts_are_in_the_log_also_when_the_answer_is_to_be_short(path: Path):
    async with opened(audit=path) as client:
        answers = [
            (
                await client.post("/reward", json={"detail": detail, "preset": "hardened-1", "groups": [group()]})
            ).json()
            for detail in ("reward", "segments")
        ]
    short, full = (one["groups"][0]["trajectories"] for one in answers)
    assert {one["segments"] for one in short} == {None}
    for _, members in read(path):
        for one, told in zip(members, full, strict=True):
            assert one["response_tokens"] == told["response_tokens"]
            assert [thought["gain"] for thought in json.loads(one["segments"])] == [
                thought["gain"] for thought in told["segments"]
            ]


@pytest.mark.parametrize("texts", [False, True])
async def test_what_was_sent_is_in_the_file_only_if_the_setting_says_so(path: Path, texts: bool):
    secret = group(prompt=SECRET, reference=SECRET, trajectories=[{"response": SECRET}])
    async with opened(audit=path, audit_texts=texts) as client:
        answer = (await client.post("/reward", json={"groups": [secret]})).json()
    ((row, (one,)),) = read(path)
    assert one["reward"] == answer["groups"][0]["trajectories"][0]["reward"]
    assert {row["prompt"], row["reference"], one["response"]} == {SECRET if texts else None}
    content = path.read_bytes()  # noqa: ASYNC240
    assert (SECRET.encode() in content) is texts


async def test_members_are_logged_as_a_group_and_again_when_one_comes_late(path: Path):
    shared = {key: group()[key] for key in ("prompt", "reference")}
    common = {**shared, "run_id": "r", "group_id": "g", "group_size": 2, "wait_s": 0}
    async with opened(audit=path) as client:
        for name in ("m1", "m2"):
            body = {**common, "member_id": name, "response": f"<think>\nIt is 42, says {name}.\n\n</think>\n\n42"}
            await client.post("/reward/member", json=body)
    assert [[(one["id"], one["fresh"]) for one in members] for _, members in read(path)] == [
        [("m1", 1)],
        [("m1", 0), ("m2", 1)],
    ]
    assert {row["run_id"] for row, _ in read(path)} == {"r"}


async def test_the_state_of_the_log_is_a_metric(path: Path):
    async with opened(audit=path) as client:
        await client.post("/reward", json={"groups": [group()]})
        text = (await client.get("/metrics")).text
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {f"opera_audit_{name}" for name in ("ok", "waiting_bytes", "written_trajectories", "failures")} <= names
    assert 'opera_audit_lost_trajectories_total{reason="queue_full"} 0.0' in text


async def test_no_audit_no_metric():
    async with opened() as client:
        assert "opera_audit" not in (await client.get("/metrics")).text


def test_a_file_that_is_something_else_is_refused(path: Path):
    path.write_text("mine " * 1000)
    with pytest.raises(SettingsError, match="not an audit log"):
        create_app(Settings(engine="dummy", audit=path))


async def test_a_locked_file_changes_no_answer(path: Path):
    async with opened(audit=path) as client:

        async def ask() -> list[dict]:
            answer = await client.post("/reward", json={"groups": [group()]})
            assert answer.status_code == 200
            return answer.json()["groups"]

        async def metric(name: str) -> float:
            text = (await client.get("/metrics")).text
            return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))

        before = await ask()
        while await metric("opera_audit_written_trajectories_total") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert [await ask() for _ in range(5)] == [before] * 5
        while not await metric("opera_audit_failures_total"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await ask() == before
        other.execute("ROLLBACK")
        other.close()
    assert len(read(path)) == 7
