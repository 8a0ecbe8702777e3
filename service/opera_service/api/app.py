"""The HTTP app: routes, envelope, docs. It knows no setting; what it serves, it is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from opera_service.api.authenticator import Authenticator
from opera_service.api.body import LargeBodies
from opera_service.api.describing import error_table, install_openapi
from opera_service.api.idempotency import IdempotencyCache
from opera_service.api.middleware import RequestMiddleware, on_http_exception
from opera_service.api.options import ApiOptions
from opera_service.api.routes import (
    completions,
    expand,
    health,
    hint,
    lora,
    member,
    model,
    openrlhf,
    policy,
    rank,
    reward,
    score,
    tokenizer,
    ui,
    verify,
    weight_transfer,
)
from opera_service.api.state import ApiState, Lifecycle
from opera_service.observability.observers import Observers
from opera_service.ui.live_page import LivePage

_ABOUT = """Rewards for reinforcement learning, read off a language model's own token log-probabilities.

Every answer carries `X-Request-Id`; scoring answers also `X-Queue-Ms`, `X-Engine-Ms`,
`X-Tokens-Computed` and `X-Route`.
A scoring request may carry `X-Request-Deadline`, in unix seconds. Errors have one form everywhere:
`{"error": {"code", "message", "retryable", "field", "request_id"}}`, with these codes:

"""


def create_api(
    lifecycle: Lifecycle,
    options: ApiOptions,
    authenticator: Authenticator,
    observers: Observers,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    live_page: LivePage | None = None,
) -> FastAPI:
    """Return the ASGI app over whatever `lifecycle` says is there. Until it has a runtime, requests get 503.

    With a `live_page`, it is served at /ui.
    """
    state = ApiState(
        lifecycle,
        options,
        authenticator,
        observers.metrics,
        IdempotencyCache(
            options.replay_bytes, options.keep_replays_s, lambda: lifecycle.runtime.engine.info.weight_version
        ),
        LargeBodies(),
        live_page,
    )
    observers.metrics.watch_counted(state.idempotency.gauges, state.idempotency.counters)
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
    app.state.api = state
    for family in (
        reward,
        member,
        hint,
        openrlhf,
        verify,
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
        app.router.routes.extend(family.router.routes)  # built once; `include_router` would build them anew
    if live_page is not None:
        app.router.routes.extend(ui.router.routes)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_middleware(RequestMiddleware, state=state, tracing=observers.tracing)
    if options.cors_origins:
        # Outermost: a browser asks beforehand, without a key. Weights are not a web page's business.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
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
                "X-Route",
                "Retry-After",
                "Idempotency-Replayed",
            ],
        )
    install_openapi(app)
    return app
