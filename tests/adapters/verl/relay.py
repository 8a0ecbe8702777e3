"""A proxy before the service that notes, refuses or loses what goes through it; the answers are the service's."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientSession, ClientTimeout, web

Body = dict[str, Any]


def never(_: Body) -> bool:
    return False


class Relay:
    """Forwards to `target`; the rules are read per request and may be replaced at any time."""

    def __init__(self, target: str) -> None:
        self.target, self.url = target, ""
        self.open()

    def open(self) -> None:
        """Let everything through, forget what was noted."""
        self.bodies: list[tuple[str, Body]] = []
        self.refuse: Callable[[Body], bool] = never
        """503 instead of asking the service."""
        self.lose: Callable[[Body], bool] = never
        """The service answers, and the answer never arrives."""

    def asked(self, path: str) -> list[Body]:
        return [body for where, body in self.bodies if where == path]

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if request.content_type == "application/json" and raw else {}
        if request.method == "POST":
            self.bodies.append((request.path, body))
        if self.refuse(body):
            return web.Response(status=503, text="no")
        lose = self.lose(body)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        async with self._session.request(
            request.method, self.target + request.path_qs, data=raw, headers=headers
        ) as answer:
            told = await answer.read()
        if lose:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=answer.status, body=told, content_type="application/json")

    async def _serve(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        async with ClientSession(timeout=ClientTimeout(total=None), auto_decompress=False) as self._session:
            app = web.Application(client_max_size=2**26)
            app.router.add_route("*", "/{path:.*}", self._forward)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            self.url = f"http://127.0.0.1:{port}"
            ready.set()
            await self._stop.wait()
            await runner.cleanup()


@contextmanager
def relaying(target: str) -> Iterator[Relay]:
    relay, ready = Relay(target), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(relay._serve(ready)), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield relay
    finally:
        relay._loop.call_soon_threadsafe(relay._stop.set)
        thread.join(10)
