"""The HTTP app: routes, envelope, lifespan, docs.

In process, without a port: `app = create_app(Settings(engine="dummy"))`, then either
`async with app.router.lifespan_context(app):` around calls through `httpx.ASGITransport(app)`, or any ASGI server.
Entering the lifespan loads the model and waits for it; leaving it finishes queued work and frees the engine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from opera_service.api.authenticator import Authenticator
from opera_service.api.describing import error_table, install_openapi
from opera_service.api.middleware import RequestMiddleware, on_http_exception
from opera_service.api.routes import (
    completions,
    expand,
    health,
    lora,
    member,
    model,
    openrlhf,
    policy,
    rank,
    reward,
    score,
    tokenizer,
    weight_transfer,
)
from opera_service.pipelines.service import Service
from opera_service.server.lifecycle import Lifecycle
from opera_service.server.settings import Settings
from opera_service.server.zero_series import show_zeros
from opera_vllm.asking import RolloutVllm

_ABOUT = """Rewards for reinforcement learning, read off a language model's own token log-probabilities.

Every answer carries `X-Request-Id`; scoring answers also `X-Queue-Ms`, `X-Engine-Ms` and `X-Tokens-Computed`.
A scoring request may carry `X-Request-Deadline`, in unix seconds. Errors have one form everywhere:
`{"error": {"code", "message", "retryable", "field", "request_id"}}`, with these codes:

"""


def create_app(
    settings: Settings | None = None,
    *,
    service: Service | None = None,
    rollout: RolloutVllm | None = None,
    wait: bool = True,
) -> FastAPI:
    """Return the ASGI app.

    `settings` default to the environment's. `service` is served instead of a newly loaded one; the app closes
    it. `rollout`, a trainer's own vLLM, scores instead of an engine of the service's. With `wait=False` the
    lifespan begins before the model is loaded, and until then requests get 503.
    """
    settings = settings or Settings()
    lifecycle = Lifecycle(settings, service, rollout)
    show_zeros(lifecycle.metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        lifecycle.start()
        try:
            if wait:
                await lifecycle.ready()
            yield
        finally:
            await lifecycle.stop()

    # Swagger UI comes from the package, not from a CDN: /docs works without the internet.
    app = FastAPIOffline(
        title="opera-reward",
        version=version("opera-reward"),
        description=_ABOUT + error_table(),
        lifespan=lifespan,
        static_url="/docs-assets",
        docs_url="/docs",
        redoc_url=None,
    )
    app.state.lifecycle = lifecycle
    app.state.authenticator = authenticator = Authenticator(settings)
    for family in (
        reward,
        member,
        openrlhf,
        rank,
        expand,
        score,
        completions,
        tokenizer,
        model,
        policy,
        weight_transfer,
        lora,
        health,
    ):
        app.include_router(family.router)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_middleware(RequestMiddleware, lifecycle=lifecycle, authenticator=authenticator)
    if settings.cors_origin:
        # Outermost: a browser asks beforehand, without a key. Weights are not a web page's business.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origin,
            allow_methods=["GET", "POST"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "X-API-Key",
                "X-Request-Id",
                "X-Request-Deadline",
                "Idempotency-Key",
            ],
            expose_headers=[
                "X-Request-Id",
                "X-Queue-Ms",
                "X-Engine-Ms",
                "X-Tokens-Computed",
                "Retry-After",
                "Idempotency-Replayed",
            ],
        )
    install_openapi(app)
    return app
