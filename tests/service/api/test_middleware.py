"""Keys, request ids, disconnects: what every request passes through."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.server.app import create_app
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from .conftest import group


async def test_without_keys_everybody_is_let_in(client: httpx.AsyncClient):
    assert (await client.get("/model")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic first"},
        {"Authorization": "first"},
        {"X-API-Key": "firs"},
        {"X-API-Key": "first,second"},
        {"Authorization": "Bearer wrong", "X-API-Key": "first"},
    ],
)
async def test_a_missing_or_wrong_key_is_refused(headers: dict[str, str]):
    async with opened(api_keys="first,second") as client:
        for path in ("/model", "/metrics", "/nowhere"):
            response = await client.get(path, headers=headers)
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["retryable"]) == (401, "unauthorized", False)
            assert response.headers["WWW-Authenticate"] == "Bearer"
        response = await client.post("/reward", json={"groups": [group()]}, headers=headers)
        assert response.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first"},
        {"authorization": "bearer  second"},
        {"X-API-Key": "second"},
        {"X-API-Key": "from-file"},
    ],
)
async def test_each_key_opens_in_each_form(tmp_path: Path, headers: dict[str, str]):
    file = tmp_path / "keys"
    file.write_text("from-file\n")
    async with opened(api_keys=(SecretStr("first"), SecretStr("second")), api_key_file=file) as client:
        assert (await client.get("/model", headers=headers)).status_code == 200


async def test_probes_and_docs_need_no_key():
    async with opened(api_keys="first") as client:
        for path in ("/startupz", "/livez", "/readyz", "/health", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200


async def test_a_request_id_is_kept_or_made(client: httpx.AsyncClient):
    kept = await client.get("/model", headers={"X-Request-Id": "run-7:step.3_a"})
    assert kept.headers["X-Request-Id"] == "run-7:step.3_a"
    made = {(await client.get("/model")).headers["X-Request-Id"] for _ in range(3)}
    assert len(made) == 3
    for unfit in ("a b", "x" * 200, 'a"<script>', ""):
        replaced = await client.get("/nope", headers={"X-Request-Id": unfit})
        assert replaced.headers["X-Request-Id"] not in ("", unfit)


class Watched(DummyEngine):
    """The dummy engine, which tells when it was given something to score."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.asked = asyncio.Event()

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        self.asked.set()
        return await super().score(trees)


async def test_work_of_a_client_that_left_never_reaches_the_engine():
    engine = Watched(ByteTokenizer.vocab_size, seconds_per_token=0.001)
    app = create_app(Settings(engine="dummy"), backend=on(engine))
    left = asyncio.Event()
    body = json.dumps({"groups": [group()]}).encode()

    async def ask(stays: bool) -> list[dict]:
        inbox = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[dict] = []

        async def receive() -> dict:
            if inbox:
                return inbox.pop()
            if stays:
                await asyncio.Event().wait()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/reward", "raw_path": b"/reward", "query_string": b"",
            "headers": [], "http_version": "1.1", "scheme": "http", "root_path": "", "asgi": {"version": "3.0"},
        }  # fmt: skip
        await app(scope, receive, send)
        return sent

    async with app.router.lifespan_context(app):
        first = asyncio.create_task(ask(stays=True))
        dispatcher = app.state.lifecycle.runtime.tree_dispatcher
        await engine.asked.wait()
        second = asyncio.create_task(ask(stays=False))
        while dispatcher.queued_items == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        left.set()
        assert await second == [], "there is nobody to answer"
        assert dispatcher.queued_items == 0
        assert (await first)[0]["status"] == 200
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            metrics = (await client.get("/metrics")).text
    assert 'opera_dropped_trees_total{reason="abandoned"} 1.0' in metrics
    assert 'opera_requests_total{route="/reward",status="499"} 1.0' in metrics
    assert "opera_batch_tokens_count 1.0" in metrics


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/reward/health", "give the service's base URL without /reward, clients add /health to it"),
        ("/a/b/reward", "give the service's base URL without /a/b, clients add /reward to it"),
        ("/ui", "the live page is there with `serve --ui` only"),
        ("/ui/events", "the live page is there with `serve --ui` only"),
        ("/rewardd", "the routes are listed at /docs"),
        ("//", "the routes are listed at /docs"),
    ],
)
async def test_a_path_that_is_none_says_what_to_do(client: httpx.AsyncClient, path: str, remedy: str):
    error = (await client.get(path)).json()["error"]
    assert error["code"] == "not_found"
    assert error["message"].endswith(f"; {remedy}")
