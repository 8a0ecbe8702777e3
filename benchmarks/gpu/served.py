"""The service around an engine on a port of this process, and the process that sends it requests."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from opera_service.engines.base import Engine
from opera_service.server.app import create_app
from opera_service.server.backends import Backend
from opera_service.server.command import SWITCH_INTERVAL_S
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer


@dataclass(frozen=True)
class Answer:
    """What a client saw of one request."""

    began: float
    """Seconds since 1970."""
    ended: float
    status: int
    weight_version: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@asynccontextmanager
async def serving(engine: Engine, *, weights: Path | None = None) -> AsyncIterator[str]:
    """Yield the URL of a service without a cache; it takes weights from the folder `weights`."""
    settings = Settings(engine="dummy", cache_mb=0, policy_root=(weights,) if weights else ())
    app = create_app(settings, backend=Backend(engine, ByteTokenizer()))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if running.done():
            await running
            raise RuntimeError("the service did not start")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


class Clients:
    """A process of its own that sends bodies to /reward, `clients` at a time: each once, or over and over."""

    def __init__(self, url: str, bodies: Sequence[Any], clients: int, *, endless: bool = False) -> None:
        self._order = json.dumps({"url": url, "bodies": list(bodies), "clients": clients, "endless": endless})

    async def __aenter__(self) -> Clients:
        self.seen: list[Answer] = []
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gpu.clients", stdin=PIPE, stdout=PIPE, limit=2**26
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._order.encode() + b"\n")
        await self._process.stdin.drain()
        self._reading = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.seen.append(Answer(*json.loads(line)))

    async def see(self, answers: int) -> None:
        """Wait until so many more answers have come. Raises RuntimeError when the clients are gone before."""
        wanted = len(self.seen) + answers
        while len(self.seen) < wanted:
            if self._reading.done():
                raise RuntimeError(f"the clients ended after {len(self.seen)} answers")
            await asyncio.sleep(0.01)

    async def answers(self) -> list[Answer]:
        """Let what is on its way be answered, and no more if they are endless; return all answers."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._reading
        if await self._process.wait():
            raise RuntimeError("the clients failed; what they said is above")
        return self.seen

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()
