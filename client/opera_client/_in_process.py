"""The service's own app inside this process: started, asked and stopped without a port.

Imports the service by name and only when asked to, so that the light client never depends on it.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import httpx
from pydantic import ValidationError

from opera_client.errors import InvalidRequest, NotSupported, OperaError, Unavailable
from opera_client.wire import problem_of

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]
"""An ASGI 3 application."""


def service_app(settings: Mapping[str, Any], rollout: Any = None) -> App:
    """Build the service's app with settings named as in `opera-reward serve` (`engine`, `model`, …).

    `rollout` is an `opera_vllm.asking.RolloutVllm` that scores instead of an engine of the service's.

    Raises:
        NotSupported: the service's dependencies are not installed.
        InvalidRequest: there is no such setting, or it cannot have this value.
    """
    try:
        server = importlib.import_module("opera_service.server.app")
        config = importlib.import_module("opera_service.server.settings")
    except ImportError as error:
        what = f"{error.name} is missing" if isinstance(error, ModuleNotFoundError) else str(error)
        raise NotSupported(
            f"running in process needs the service ({what}); "
            "pip install 'opera-reward[server]', or give the url of a running one"
        ) from None
    try:
        app: App = server.create_app(config.Settings(**settings), rollout=rollout)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidRequest(
            f"{problem_of(first, config.Settings)}, got {first['input']!r}", field=field
        ) from None
    return app


@asynccontextmanager
async def running(app: App) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Run an ASGI app's lifespan around the block; yields a transport that speaks to the app.

    Raises:
        Unavailable: the app refused to start.
    """
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    news: asyncio.Queue[str] = asyncio.Queue()

    async def send(message: Message) -> None:
        await news.put(message["type"])

    async def live() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, inbox.get, send)
        finally:
            await news.put("ended")

    life = asyncio.create_task(live())
    await inbox.put({"type": "lifespan.startup"})
    if await news.get() != "lifespan.startup.complete":
        await _explain(life)
    try:
        # An exception inside the app becomes a 500 answer, as it would behind a port.
        yield httpx.ASGITransport(app, raise_app_exceptions=False)
    finally:
        await inbox.put({"type": "lifespan.shutdown"})
        await asyncio.gather(life, return_exceptions=True)


async def _explain(life: asyncio.Task[None]) -> NoReturn:
    """Raise what kept the app from starting: its own typed error where it has one."""
    try:
        await life
    except OperaError:
        raise
    except Exception as error:
        raise Unavailable(f"the service did not start: {type(error).__name__}: {error}") from error
    raise Unavailable("the service did not start, and did not say why")
