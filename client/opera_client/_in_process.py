"""The service's own app inside this process: started, asked and stopped without a port.

Imports the service by name and only when asked to, so that the light client never depends on it.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from opera_client.errors import NotSupported, Unavailable

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
"""An ASGI 3 application."""


def service_app(settings: Mapping[str, Any]) -> App:
    """Build the service's app with settings named as in `opera-reward serve` (`engine`, `model`, …).

    Raises:
        NotSupported: the service's dependencies are not installed.
    """
    try:
        api = importlib.import_module("opera_service.api.app")
        config = importlib.import_module("opera_service.settings")
    except ModuleNotFoundError as error:
        raise NotSupported(
            f"running in process needs the service ({error.name} is missing); "
            "pip install 'opera-reward[server]', or give the url of a running one"
        ) from None
    app: App = api.create_app(config.Settings(**settings))
    return app


@asynccontextmanager
async def running(app: App) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Run an ASGI app's lifespan around the block; yields a transport that speaks to the app.

    Raises:
        Unavailable: the app refused to start.
    """
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    stopped = asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete" and not started.done():
            started.set_result(None)
        elif message["type"] == "lifespan.startup.failed" and not started.done():
            started.set_exception(Unavailable(f"the service did not start: {message.get('message', '')}"))
        elif message["type"].startswith("lifespan.shutdown"):
            stopped.set()

    async def live() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, inbox.get, send)
        finally:
            stopped.set()

    life = asyncio.create_task(live())
    await inbox.put({"type": "lifespan.startup"})
    await asyncio.wait({life, started}, return_when=asyncio.FIRST_COMPLETED)
    if not started.done():
        life.result()  # an app without lifespan raises here, as does one that fails while starting
        started.set_result(None)
    started.result()
    try:
        # An exception inside the app becomes a 500 answer, as it would behind a port.
        yield httpx.ASGITransport(app, raise_app_exceptions=False)
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        await stopped.wait()
        await asyncio.gather(life, return_exceptions=True)
