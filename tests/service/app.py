"""Apps and runtimes on engines that a test brings along, asked without a port."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from opera_service.engines.base import Engine
from opera_service.engines.dummy import DummyEngine
from opera_service.observability.observers import Observers
from opera_service.observability.rewarded import Subscriber
from opera_service.pipelines.runtime import Runtime
from opera_service.server.app import create_app
from opera_service.server.backends import Backend
from opera_service.server.build import build_runtime
from opera_service.server.lifecycle import Lifecycle
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer


class AppClient(httpx.AsyncClient):
    """A client of an app in this process; what the app is made of can be looked at."""

    def __init__(self, app: FastAPI, **options) -> None:
        # An exception that escapes the app must reach the client as an answer, as behind a port.
        options.setdefault("transport", httpx.ASGITransport(app, raise_app_exceptions=False))
        super().__init__(base_url="http://app", **options)
        self.app = app
        self.lifecycle: Lifecycle = app.state.lifecycle

    @property
    def runtime(self) -> Runtime:
        return self.lifecycle.runtime


def on(engine: Engine) -> Backend:
    """The engine with the tokenizer of bytes."""
    return Backend(engine, ByteTokenizer())


@asynccontextmanager
async def opened(backend: Backend | None = None, **settings) -> AsyncIterator[AppClient]:
    """A client of a running app."""
    app = create_app(Settings(engine="dummy", **settings), backend=backend)
    async with app.router.lifespan_context(app), AppClient(app) as client:
        yield client


def runtime_on(backend: Backend | None = None, *, subscribers: Sequence[Subscriber] = (), **settings) -> Runtime:
    """A runtime without an app; on the dummy engine by default."""
    return build_runtime(
        Settings(engine="dummy", **settings),
        backend or on(DummyEngine(ByteTokenizer.vocab_size)),
        Observers(subscribers=subscribers),
    )
