"""The live page over HTTP: who may see what, what is kept, and that it is there only when asked for."""

import asyncio
import json
import time
from pathlib import Path

import httpx
import pytest
from tests.service.api.conftest import group, opened

from opera_service.audit.store import Window, groups, open_for_reading

KEY = {"Authorization": "Bearer secret"}
DATA = ["overview", "series?run=r", "groups", "groups/1", "trajectories"]


async def overview(client: httpx.AsyncClient, groups: int) -> dict:
    """Return the overview once it has so many groups."""
    end = time.monotonic() + 20
    while True:
        found = (await client.get("/ui/api/overview")).json()
        if found["storage"]["groups"] >= groups:
            return found
        assert time.monotonic() < end, found
        await asyncio.sleep(0.01)


async def test_without_being_asked_for_there_is_no_page(client: httpx.AsyncClient):
    for path in ("/ui", "/ui/", "/ui/api/overview", "/ui/events"):
        assert (await client.get(path)).status_code == 404


async def test_the_page_needs_no_key_and_all_its_data_do():
    async with opened(ui=True, api_keys="secret") as client:
        assert (await client.get("/ui")).headers["location"].endswith("ui/")
        for path in ("/ui/", "/ui/icon.svg", "/ui/assets/page.js", "/ui/assets/index.css"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
        for path in DATA:
            assert (await client.get(f"/ui/api/{path}")).status_code == 401
        assert (await client.get("/ui/events")).status_code == 401
        assert (await client.get("/ui/api/overview", headers=KEY)).status_code == 200


async def test_a_page_that_has_not_changed_is_not_sent_again():
    async with opened(ui=True) as client:
        tag = (await client.get("/ui/assets/page.js")).headers["etag"]
        assert (await client.get("/ui/assets/page.js", headers={"If-None-Match": tag})).status_code == 304


@pytest.mark.parametrize("path", ["assets/other.js", "assets/..%2Findex.html", "assets/%2e%2e/%2e%2e/store.py"])
async def test_no_other_file_is_served(path: str):
    async with opened(ui=True) as client:
        assert (await client.get(f"/ui/{path}")).status_code == 404


async def test_what_was_rewarded_is_there_at_once():
    async with opened(ui=True, audit_texts=True) as client:
        told = (await client.post("/reward", json={"run_id": "r", "step": 3, "groups": [group()]})).json()
        found = await overview(client, 1)
        assert [one["run"] for one in found["runs"]] == ["r"]
        assert found["model"]["name"] == "dummy"
        (row,) = (await client.get("/ui/api/groups", params={"run": "r", "first_step": 3})).json()["rows"]
        detail = (await client.get(f"/ui/api/groups/{row['key']}")).json()
    (scored,) = told["groups"]
    assert detail["prompt"] == group()["prompt"]
    assert detail["references"] == ["42"]
    assert [one["response"] for one in detail["members"]] == [one["response"] for one in group()["trajectories"]]
    for one, trajectory in zip(detail["members"], scored["trajectories"], strict=True):
        assert (one["reward"], one["components"]) == (trajectory["reward"], trajectory["components"])
        assert [segment["gain"] for segment in one["segments"]] == [
            segment["gain"] for segment in trajectory["segments"]
        ]


@pytest.mark.parametrize("audit", [False, True])
async def test_without_audit_texts_no_text_is_kept(audit: bool, tmp_path: Path):
    secret = "zanzibar"
    body = group(
        prompt=f"{secret} 1",
        reference=f"{secret} 2",
        trajectories=[{"response": f"<think>{secret} 3</think>{secret} 4"}],
    )
    settings = {"audit": tmp_path / "a.db"} if audit else {}
    async with opened(ui=True, **settings) as client:
        await client.post("/reward", json={"run_id": "r", "step": 3, "groups": [body]})
        found = await overview(client, 1)
        said = [(await client.get(f"/ui/api/{path}")).text for path in DATA]
    assert found["texts_kept"] is False
    assert secret not in " ".join(said)
    assert json.loads(said[3])["members"][0]["segments"][0]["text"] is None


async def test_with_the_audit_log_history_survives_a_restart(tmp_path: Path):
    settings = {"ui": True, "audit": tmp_path / "a.db", "audit_texts": True}
    for step in (1, 2):
        async with opened(**settings) as client:
            await client.post("/reward", json={"run_id": "r", "step": step, "groups": [group()]})
            found = await overview(client, step)
    assert (found["storage"]["kind"], found["storage"]["limit_bytes"]) == ("audit", None)
    assert (found["runs"][0]["first_step"], found["runs"][0]["last_step"]) == (1, 2)


async def test_in_memory_nothing_survives_a_restart_and_no_audit_metric_appears():
    for _ in range(2):
        async with opened(ui=True) as client:
            assert (await overview(client, 0))["runs"] == []
            await client.post("/reward", json={"run_id": "r", "groups": [group()]})
            await overview(client, 1)
            assert "opera_audit" not in (await client.get("/metrics")).text


async def test_what_the_page_asks_itself_joins_no_run_but_is_audited(tmp_path: Path):
    path = tmp_path / "a.db"
    async with opened(ui=True, audit=path) as client:
        for run in ("ask-again", "r"):
            await client.post("/reward", json={"run_id": run, "groups": [group()]})
        assert [one["run"] for one in (await overview(client, 1))["runs"]] == ["r"]
        assert (await client.get("/ui/api/trajectories")).json()["total"] == 2
    assert [one["run_id"] for one, _ in groups(open_for_reading(path), Window())] == ["ask-again", "r"]


async def test_a_refused_request_is_missing_until_it_comes():
    body = {"run_id": "r", "step": 1, "groups": [group()]}
    async with opened(ui=True) as client:
        await client.post("/reward", json={**body, "step": 0})
        assert (await client.post("/reward", json={**body, "weight_version": "other"})).status_code == 409
        (run,) = (await overview(client, 1))["runs"]
        assert run["completeness"]["missing"] == 1
        assert (await client.post("/reward", json=body)).status_code == 200
        (run,) = (await overview(client, 2))["runs"]
    assert run["completeness"] == {
        "whole": 2, "partial": 0, "failed": 0, "missing": 0, "dropped": 0, "missing_steps": [],
    }  # fmt: skip


async def test_a_group_of_which_members_stayed_away_is_one_in_part():
    member = {
        "run_id": "r", "step": 1, "group_id": "g", "group_size": 3, "member_id": "a", "prompt": "p",
        "reference": "42", "response": "<think>x</think>42", "wait_s": 0.05, "on_timeout": "partial",
    }  # fmt: skip
    async with opened(ui=True) as client:
        assert (await client.post("/reward/member", json=member)).json()["group_size_seen"] == 1
        (run,) = (await overview(client, 1))["runs"]
    assert (run["completeness"]["whole"], run["completeness"]["partial"]) == (0, 1)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"), ({"limit": 501}, "limit"), ({"offset": -1}, "offset"),
        ({"first_step": "x"}, "first_step"),
        ({"question": "drop"}, "question"), ({"sort": "components.a\"b"}, "sort"), ({"sort": "time"}, "sort"),
        ({"reward_min": "nan"}, "reward_min"), ({"other": 1}, "other"), ({"text": "x" * 1001}, "text"),
    ],
)  # fmt: skip
async def test_a_query_that_means_nothing_is_told_so(query: dict, field: str):
    async with opened(ui=True) as client:
        for path in ("groups", "trajectories"):
            answer = await client.get(f"/ui/api/{path}", params=query)
            assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


@pytest.mark.parametrize(("key", "status"), [("99", 404), ("x", 422), ("-1", 422), ("1" * 30, 422)])
async def test_a_group_that_is_not_there(key: str, status: int):
    async with opened(ui=True) as client:
        answer = await client.get(f"/ui/api/groups/{key}")
        assert (answer.status_code, set(answer.json())) == (status, {"error"})


async def test_a_series_needs_a_run():
    async with opened(ui=True) as client:
        assert (await client.get("/ui/api/series")).json()["error"]["field"] == "run"
        assert (await client.get("/ui/api/series", params={"run": "nobody"})).json()["points"] == []
