"""Deadlines, disconnects and a full queue against a real server: what is dropped, what is counted."""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from ..live import live

GROUP = {
    "prompt": "What is 17 + 25?\n",
    "reference": "42",
    "trajectories": [{"response": "<think>\n17 + 25 is 42.\n\n</think>\n\n42"}],
}
BODY = {"groups": [GROUP]}


async def until(holds: Callable[[str], bool], client: httpx.AsyncClient) -> str:
    """Return the metrics once they are so."""
    for _ in range(500):
        metrics = (await client.get("/metrics")).text
        if holds(metrics):
            return metrics
        await asyncio.sleep(0.01)
    raise AssertionError(f"it did not come to that:\n{metrics}")


def send_and_leave(url: str, body: bytes) -> Callable[[], None]:
    """Send a request whose answer nobody will read; return how to hang up."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    head = f"POST /reward HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection.close


async def test_what_is_late_or_left_never_reaches_the_engine():
    with live("--engine", "dummy", "--dummy-token-seconds", "0.02") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            first = asyncio.create_task(client.post("/reward", json=BODY))
            await until(lambda text: "opera_running_trees 1.0" in text, client)

            hang_up = send_and_leave(server.url, json.dumps(BODY).encode())
            await until(lambda text: "opera_queue_trees 1.0" in text, client)
            hang_up()
            await until(lambda text: 'opera_dropped_trees_total{reason="abandoned"} 1.0' in text, client)

            started = time.monotonic()
            late = await client.post("/reward", json={**BODY, "timeout_s": 0.2})
            assert time.monotonic() - started < 1.5, "the answer does not wait for the engine"
            error = late.json()["error"]
            assert (late.status_code, error["code"], error["retryable"]) == (504, "deadline_exceeded", True)
            over = await client.post("/reward", json=BODY, headers={"X-Request-Deadline": str(time.time() - 1)})
            assert "tokenised" in over.json()["error"]["message"], "it does not even cost that"
            assert (over.status_code, over.json()["error"]["code"]) == (504, "deadline_exceeded")

            metrics = (await client.get("/metrics")).text
            assert 'opera_dropped_trees_total{reason="expired"} 1.0' in metrics
            assert "opera_queue_requests 0.0" in metrics
            assert "opera_queue_tokens 0.0" in metrics
            assert not first.done(), "all of this while the engine was busy"
            assert (await first).status_code == 200
            metrics = (await client.get("/metrics")).text
            assert 'opera_batches_total{outcome="ok"} 1.0' in metrics
            assert "opera_batch_tokens_count 1.0" in metrics
            assert 'opera_requests_total{route="/reward",status="499"} 1.0' in metrics
            assert 'opera_requests_total{route="/reward",status="504"} 2.0' in metrics


async def test_a_queue_of_one_behind_a_real_port():
    flags = ("--max-queue-requests", "1", "--overload-status", "503", "--cache-mb", "0")
    with live("--engine", "dummy", "--dummy-token-seconds", "0.01", *flags) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            first = asyncio.create_task(client.post("/reward", json=BODY))
            await until(lambda text: "opera_running_trees 1.0" in text, client)
            second = asyncio.create_task(client.post("/reward", json=BODY))
            await until(lambda text: "opera_queue_requests 1.0" in text, client)
            third = await client.post("/reward", json=BODY)
            assert (third.status_code, third.json()["error"]["code"]) == (503, "overloaded")
            assert int(third.headers["Retry-After"]) >= 1
            assert [(await one).status_code for one in (first, second)] == [200, 200]
