"""A service to be broken, and the count of what its clients got meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx


@dataclass
class Tally:
    """What became of the rewards of one fault, and of the attempts behind them."""

    fault: str
    asked: int = 0
    right: int = 0
    wrong: int = 0
    lost: int = 0
    refused: int = 0
    broken: int = 0
    untyped: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.wrong or self.lost or self.untyped) and self.right == self.asked > 0


class Counting(httpx.AsyncHTTPTransport):
    """The network, with a look at every answer."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await super().handle_async_request(request)
            await response.aread()
        except httpx.TransportError:
            self._tally.broken += 1
            raise
        if response.status_code >= 400:
            try:
                typed = response.json()["error"]["retryable"] is True
            except (ValueError, KeyError, TypeError):
                typed = False
            self._tally.refused += typed
            self._tally.untyped += not typed
        return response


class Server:
    """A service process on a port of its own; it can be killed and started again on the same port."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.orders = folder / "orders"
        self.order("work")
        self._flags, self._environment = flags, environment
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def order(self, what: str) -> None:
        self.orders.write_text(what, encoding="utf-8")

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("faulty_service.py"))]
        flags = ["--engine", "dummy", "--port", str(self.port), "--engine-stall-s", "1", "--cache-mb", "0"]
        # Real work takes time: without it no fault meets a request half way.
        flags += ["--dummy-token-seconds", "0.00003", "--log-level", "error", *self._flags]
        self.process = subprocess.Popen(
            [*command, *flags],
            env={**os.environ, "FAULTS_ORDERS": str(self.orders), **self._environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        if "serves" not in line:
            raise SystemExit(f"the service did not start: {line!r}")

    async def restart_after(self, number: int) -> int:
        """Send a signal, wait for the end, start again; return the exit code."""
        self.process.send_signal(number)
        code = await asyncio.to_thread(self.process.wait, 60)
        await asyncio.to_thread(self.start)
        return code

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
