"""A real service on a loopback port in a thread of this process, behind a gate that notes, refuses or delays."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import uvicorn

from opera_service.server.app import create_app
from opera_service.server.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gate:
    """An ASGI app before the service's own; the real thing answers unless the gate is shut."""

    def __init__(self, port: int, watched: str = "/reward", **settings: Any) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self._watched, self._settings = watched, Settings(**settings)
        self._server: uvicorn.Server | None = None
        self.open()

    def open(self) -> None:
        """Let everything through, forget what was noted, start the server if it was killed."""
        self.bodies: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.refuse: Callable[[], bool] = lambda: False
        self.hang_up: Callable[[], bool] = lambda: False
        self.delay_s = 0.0
        if self._server is None:
            self.start()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._watched:
            await self._app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(json.loads(body))
        await asyncio.sleep(self.delay_s)
        if self.refuse():
            self.statuses.append(503)
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
            return
        given = iter([{"type": "http.request", "body": body, "more_body": False}])
        hang_up = self.hang_up()

        async def again() -> Message:
            if (first := next(given, None)) is not None:
                return first
            if hang_up:  # the caller is gone once the service has its question
                await asyncio.sleep(0.05)
                return {"type": "http.disconnect"}
            return await receive()

        async def noted(message: Message) -> None:
            if hang_up:
                return
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            await send(message)

        await self._app(scope, again, noted)
        if hang_up:  # what a proxy says whose patience ended
            self.statuses.append(504)
            await send({"type": "http.response.start", "status": 504, "headers": []})
            await send({"type": "http.response.body", "body": b"late"})

    def start(self) -> None:
        """Start the server on the gate's port and wait until it is ready."""
        self._app = create_app(self._settings)
        self._server = uvicorn.Server(
            uvicorn.Config(self, port=self.port, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise AssertionError("the service did not start")
            time.sleep(0.02)

    def kill(self) -> None:
        """Stop the server: connections are refused until `start`."""
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = None


@contextmanager
def serving(**settings: Any) -> Iterator[Gate]:
    """Serve with the given settings on a free port while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    gate = Gate(port, **settings)
    try:
        yield gate
    finally:
        gate.kill()
