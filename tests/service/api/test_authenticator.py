"""Who may do what: no key, an API key, an admin key, a wrong one; and keys that change while it runs."""

import os
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from opera_service.api.authenticator import given_key
from opera_service.api.key_ring import KeyRing
from opera_service.server.app import create_app
from opera_service.server.settings import Settings

from ..app import opened
from .conftest import group
from .test_policy import push, refusal, salted

SETUPS = {
    "open": {},
    "api": {"api_keys": "user,user-2"},
    "admin": {"admin_keys": "root"},
    "both": {"api_keys": "user,user-2", "admin_keys": "root,root-2"},
    "open beyond this machine": {"host": "0.0.0.0", "allow_open": True},
    "admin beyond this machine": {"host": "0.0.0.0", "allow_open": True, "admin_keys": "root"},
}
KEYS = {
    "none": {},
    "user": {"X-API-Key": "user-2"},
    "root": {"Authorization": "Bearer root"},
    "wrong": {"X-API-Key": "w"},
}
MATRIX = {
    # who asks:                     none      user      root      wrong     -> (scoring, replacing the weights)
    "open": {"none": (200, 200), "user": (200, 200), "root": (200, 200), "wrong": (200, 200)},
    "api": {"none": (401, 401), "user": (200, 403), "root": (401, 401), "wrong": (401, 401)},
    "admin": {"none": (200, 401), "user": (200, 401), "root": (200, 200), "wrong": (200, 401)},
    "both": {"none": (401, 401), "user": (200, 403), "root": (200, 200), "wrong": (401, 401)},
    "open beyond this machine": {"none": (200, 403), "user": (200, 403), "root": (200, 403), "wrong": (200, 403)},
    "admin beyond this machine": {"none": (200, 401), "user": (200, 401), "root": (200, 200), "wrong": (200, 401)},
}


@pytest.mark.parametrize("who", KEYS)
@pytest.mark.parametrize("setup", SETUPS)
async def test_the_matrix(setup: str, who: str, tmp_path: Path):
    scoring, replacing = MATRIX[setup][who]
    (tmp_path / "w.safetensors").write_bytes(salted(2))
    async with opened(policy_root=(tmp_path,), **SETUPS[setup]) as client:
        headers = KEYS[who]
        body = {"groups": [group()]}
        assert (await client.post("/reward", json=body, headers=headers)).status_code == scoring
        assert (await client.get("/policy", headers=headers)).status_code == scoring
        assert (await push(client, "1", salted(1), **headers)).status_code == replacing
        load = {"path": str(tmp_path / "w.safetensors"), "weight_version": "2"}
        assert (await client.post("/policy/load", json=load, headers=headers)).status_code == replacing
        reader = KEYS["root"] if setup == "both" else KEYS["user"]
        loaded = (await client.get("/policy", headers=reader)).json()["weight_version"]
        assert loaded == ("2" if replacing == 200 else "0")


@pytest.mark.parametrize(("open_metrics", "seen"), [(False, 401), (True, 200)])
async def test_metrics_are_open_when_said_and_nothing_else_is(open_metrics: bool, seen: int):
    async with opened(api_keys="user", open_metrics=open_metrics) as client:
        assert (await client.get("/metrics")).status_code == seen
        for path in ("/model", "/metrics/", "/metricsx"):
            assert (await client.get(path)).status_code == 401


async def test_a_refused_push_is_refused_before_its_body_is_read():
    async def body():
        raise AssertionError("the body was read")
        yield b""

    async with opened(admin_keys="root") as client:
        response = await client.put("/policy/weights", content=body(), headers={"X-Weight-Version": "1"})
        assert refusal(response) == (401, "unauthorized")


async def test_without_keys_a_web_page_cannot_replace_the_weights(client: httpx.AsyncClient):
    response = await push(client, "1", salted(1), Origin="http://localhost:3000")
    assert refusal(response) == (403, "forbidden")


async def test_without_keys_other_machines_cannot_replace_the_weights():
    app = create_app(Settings(engine="dummy"))
    away = httpx.ASGITransport(app, client=("192.0.2.7", 4000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=away, base_url="http://app") as client,
    ):
        assert refusal(await push(client, "1", salted(1))) == (403, "forbidden")


async def test_keys_change_while_the_service_runs(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("old\n")

    async with opened(api_keys="fixed", api_key_file=file) as client:

        async def lets_in(key: str) -> bool:
            return (await client.get("/model", headers={"X-API-Key": key})).status_code == 200

        assert await lets_in("old")
        file.write_text("new\n")
        assert [await lets_in(key) for key in ("old", "new", "fixed")] == [False, True, True]
        beside = tmp_path / "beside"
        beside.write_text("one\ntwo\n")
        os.replace(beside, file)  # noqa: PTH105  as an operator or a secret's mount does it
        assert [await lets_in(key) for key in ("new", "one", "two")] == [False, True, True]
        file.unlink()
        assert [await lets_in(key) for key in ("one", "", "fixed")] == [True, False, True]
        file.write_text("\n")
        assert [await lets_in(key) for key in ("one", "", "other")] == [True, False, False]
        file.write_text("last\n")
        assert [await lets_in(key) for key in ("one", "last")] == [False, True]


async def test_a_file_that_gives_one_key_both_rights_changes_nothing(tmp_path: Path, caplog):
    api, admin = tmp_path / "api", tmp_path / "admin"
    api.write_text("reader\n")
    admin.write_text("ruler\n")
    async with opened(api_key_file=api, admin_key_file=admin) as client:

        async def lets_in(key: str) -> bool:
            return (await client.get("/model", headers={"X-API-Key": key})).status_code == 200

        assert await lets_in("reader")
        api.write_text("reader\nanother\nruler\n")
        assert [await lets_in(key) for key in ("reader", "another", "ruler")] == [True, False, True]
        assert "is an API key and an admin key" in caplog.text
        admin.write_text("reader\n")
        assert [await lets_in(key) for key in ("reader", "ruler")] == [True, True]
        admin.write_text("king\n")
        assert [await lets_in(key) for key in ("king", "ruler")] == [True, False]


def test_an_empty_key_is_no_key():
    assert not KeyRing([], "api_key_file", None)
    assert not KeyRing([""], "api_key_file", None).holds("")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, ""),
        ({"authorization": "Bearer a"}, "a"),
        ({"authorization": "bearer   a "}, "a"),
        ({"authorization": "Basic a", "x-api-key": "b"}, "b"),
        ({"authorization": "Bearer a", "x-api-key": "b"}, "a"),
        ({"authorization": "Bearer", "x-api-key": "b"}, ""),
    ],
)
def test_where_the_key_is_read(headers: dict[str, str], key: str):
    assert given_key(Headers(headers)) == key


async def test_cors_is_off_by_default(client: httpx.AsyncClient):
    origin = {"Origin": "https://page.example"}
    answer = await client.get("/model", headers=origin)
    assert not [name for name in answer.headers if name.startswith("access-control")]
    ask = {**origin, "Access-Control-Request-Method": "POST"}
    assert (await client.options("/reward", headers=ask)).status_code == 405


async def test_cors_for_named_origins():
    async with opened(cors_origin="https://page.example", api_keys="user") as client:

        async def asked(origin: str, method: str = "POST") -> httpx.Response:
            wanted = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "X-API-Key"}
            return await client.options("/reward", headers={"Origin": origin, **wanted})

        allowed = await asked("https://page.example")
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (
            200,
            "https://page.example",
        )
        assert (await asked("https://evil.example")).status_code == 400
        assert (await asked("https://page.example", "PUT")).status_code == 400
        answer = await client.get("/model", headers={"Origin": "https://page.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "https://page.example")
