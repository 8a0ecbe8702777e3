"""The service as one ASGI app.

In process, without a port: `app = create_app(Settings(engine="dummy"))`, then either
`async with app.router.lifespan_context(app):` around calls through `httpx.ASGITransport(app)`, or any ASGI server.
Entering the lifespan loads the model and waits for it; leaving it finishes queued work and frees the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import SecretStr

from opera_service.api.app import create_api
from opera_service.api.authenticator import Authenticator
from opera_service.api.key_ring import KeyFileError, KeyRing
from opera_service.api.loopback import is_loopback
from opera_service.api.options import ApiOptions
from opera_service.observability.observers import Observers
from opera_service.pipelines.runtime import Runtime
from opera_service.server import backends
from opera_service.server.backends import Backend
from opera_service.server.build import build_runtime, open_live_page, open_observers
from opera_service.server.lifecycle import Lifecycle
from opera_service.server.settings import Settings, SettingsError
from opera_service.weights.manager import WeightManager
from opera_service.weights.updates import Loader
from opera_vllm.asking import RolloutVllm


def create_app(
    settings: Settings | None = None,
    *,
    backend: Backend | None = None,
    rollout: RolloutVllm | None = None,
    observers: Observers | None = None,
    weights: WeightManager | None = None,
    loader: Loader | None = None,
    wait: bool = True,
) -> FastAPI:
    """Return the app. `app.state.lifecycle` is where it stands.

    Args:
        settings: the environment's by default.
        backend: is served instead of a newly loaded one, and closed with the app.
        rollout: a trainer's own vLLM, which scores instead of an engine of the service's.
        observers: look on instead of those that the settings name, and are closed with the app.
        weights: as `build_runtime` takes it.
        loader: as `build_runtime` takes it.
        wait: False begins the lifespan before the model is loaded; until then requests get 503.

    Raises:
        SettingsError: a file that the settings name cannot be read or written.
    """
    settings = settings or Settings()
    page = None if observers else open_live_page(settings)
    watching, authenticator = observers or open_observers(settings, page), _authenticator(settings)

    def build(loop: asyncio.AbstractEventLoop) -> Runtime:
        served = backend or backends.load_backend(settings, loop, rollout)
        return build_runtime(settings, served, watching, weights=weights, loader=loader)

    lifecycle = Lifecycle(build, drain_timeout_s=settings.drain_timeout)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        lifecycle.start()
        try:
            if wait:
                await lifecycle.ready()
            yield
        finally:
            await lifecycle.stop()
            await asyncio.to_thread(watching.close)

    app = create_api(lifecycle, _options(settings), authenticator, watching, lifespan, page)
    app.state.lifecycle = lifecycle
    return app


def _options(settings: Settings) -> ApiOptions:
    return ApiOptions(
        max_body_bytes=settings.max_body_bytes,
        max_weights_bytes=settings.max_weights_bytes,
        overload_status=int(settings.overload_status),
        log_prompts=settings.log_prompts,
        open_metrics=settings.open_metrics,
        cors_origins=settings.cors_origin,
        replay_bytes=int(settings.replay_mb * 2**20),
        keep_replays_s=settings.keep_replays_s,
    )


def _authenticator(settings: Settings) -> Authenticator:
    def given(keys: Sequence[SecretStr]) -> list[str]:
        return [key.get_secret_value() for key in keys]

    try:
        return Authenticator(
            api=KeyRing(given(settings.api_keys), "api_key_file", settings.api_key_file),
            admin=KeyRing(given(settings.admin_keys), "admin_key_file", settings.admin_key_file),
            bound_to_loopback=is_loopback(settings.host),
        )
    except KeyFileError as error:
        raise SettingsError(str(error)) from None
