"""Sends requests from a process of its own, which imports neither torch nor the service.

The order comes as one line of JSON on the standard input; answers go out as they come, one JSON array a line. An
endless order ends when the standard input does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator

import httpx


async def main() -> None:
    order = json.loads(sys.stdin.readline())
    bodies = [json.dumps(body).encode() for body in order["bodies"]]
    stopped = asyncio.Event()
    waiting: Iterator[bytes] = itertools.cycle(bodies) if order["endless"] else iter(bodies)
    limits = httpx.Limits(max_connections=order["clients"], max_keepalive_connections=order["clients"])

    async def one_client(client: httpx.AsyncClient) -> None:
        for body in waiting:
            if stopped.is_set():
                return
            began = time.time()
            answer = await client.post("/reward", content=body)
            version = answer.json()["model"]["weight_version"] if answer.is_success else ""
            print(json.dumps([began, time.time(), answer.status_code, version]), flush=True)

    async def watch() -> None:
        await asyncio.to_thread(sys.stdin.read)
        stopped.set()

    async with httpx.AsyncClient(base_url=order["url"], limits=limits, timeout=600) as client:
        watching = asyncio.create_task(watch()) if order["endless"] else None
        await asyncio.gather(*(one_client(client) for _ in range(order["clients"])))
        if watching:
            await watching


if __name__ == "__main__":
    asyncio.run(main())
