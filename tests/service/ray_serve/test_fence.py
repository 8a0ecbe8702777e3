"""No answer leaves a replica that may not serve, and every answer says who gave it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from opera_service.ray_serve.fence import Fence


@pytest.fixture
def may() -> list[bool]:
    return [True]


@pytest.fixture
def settled() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@pytest.fixture
def client(may: list[bool], settled: asyncio.Event) -> httpx.AsyncClient:
    async def app(scope, receive, send) -> None:
        if scope["path"] == "/lapses":
            may[0] = False  # while the work was done
        headers = {"X-Request-Id": "mine"}
        await PlainTextResponse("a number", headers=headers)(scope, receive, send)

    transport = httpx.ASGITransport(Fence(app, "r1", settled.wait, lambda: may[0]))
    return httpx.AsyncClient(transport=transport, base_url="http://app")


async def test_answers_pass_while_it_may_serve(client):
    answer = await client.get("/reward")
    assert (answer.status_code, answer.text, answer.headers["x-opera-replica"]) == (200, "a number", "r1")
    assert "x-request-id" not in answer.headers  # Serve's proxy adds it


@pytest.mark.parametrize("path", ["/reward", "/lapses"])
async def test_nothing_passes_when_it_may_not_or_may_no_longer(client, may, path):
    may[0] = path == "/lapses"
    answer = await client.get(path, headers={"X-Request-Id": "r-1"})
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert (error["code"], error["retryable"], error["request_id"]) == ("unavailable", True, "r-1")
    assert answer.headers["retry-after"] == "1"


async def test_requests_wait_at_the_settled(client, settled):
    settled.clear()
    waiting = asyncio.create_task(client.get("/reward"))
    assert (await client.get("/livez")).status_code == 200
    assert not waiting.done()
    settled.set()
    assert (await waiting).status_code == 200


async def test_probes_always_pass(client, may):
    may[0] = False
    for path in ("/livez", "/readyz", "/startupz", "/health"):
        assert (await client.get(path)).status_code == 200
