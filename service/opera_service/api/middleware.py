"""What every request passes through: request id, keys, metrics, and errors as bodies. Plain ASGI.

Nothing leaves as HTML or as a bare traceback. It knows no route's content.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
import traceback
import uuid
from contextlib import nullcontext

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opera_client.errors import (
    InternalError,
    InvalidRequest,
    LimitExceeded,
    MethodNotAllowed,
    NotFound,
    OperaError,
    Overloaded,
    Unavailable,
)
from opera_service.api.state import ApiState
from opera_service.observability import logs
from opera_service.observability.tracing import Describe, NoTracing, Tracing

logger = logging.getLogger(__name__)
access = logging.getLogger("opera_service.access")

OPEN_PATHS = frozenset(
    {"/startupz", "/livez", "/readyz", "/health", "/docs", "/openapi.json", "/ui", "/ui/", "/ui/icon.svg"}
)
OPEN_PREFIXES = ("/docs-assets", "/ui/assets/")
_UNTRACED = NoTracing()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestMiddleware:
    """Wraps the app; `scope["state"]["request_id"]` is the id inside."""

    def __init__(self, app: ASGIApp, *, state: ApiState, tracing: Tracing) -> None:
        self._app, self._state, self._tracing = app, state, tracing
        self._open = OPEN_PATHS | {"/metrics"} if state.options.open_metrics else OPEN_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; everything else passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        named = logs.request_id.set(request_id)
        quiet = scope["path"] in OPEN_PATHS or scope["path"] == "/metrics" or _is_page(scope)
        try:
            with (_UNTRACED if quiet else self._tracing).request(headers) as describe:
                await self._answer(scope, receive, send, headers, request_id, describe)
        finally:
            logs.request_id.reset(named)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, request_id: str, describe: Describe
    ) -> None:
        status, started = 0, time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            if scope["path"] not in self._open and not scope["path"].startswith(OPEN_PREFIXES):
                self._state.authenticator.check(headers)
            # A page that listens is no work in flight, for as long as it is open.
            with nullcontext() if _is_page(scope) else self._state.metrics.in_flight():
                await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            pass  # nobody is left to answer
        except asyncio.CancelledError:  # by the server: the request outlasted --drain-timeout
            if status or not self._state.lifecycle.draining:
                raise
            gone = Unavailable("the service has shut down before this was answered; send it to another replica")
            gone.retry_after = 1.0
            await self._refuse(gone, request_id)(scope, receive, send_with_id)
        except Exception as error:
            if not isinstance(error, OperaError):
                self._log(request_id, scope, error)
                error = InternalError(
                    "a defect of the service; report it with the request id and the server's log"
                )
            if status:  # the answer had begun: all that is left is to cut it off
                raise
            await self._refuse(error, request_id)(scope, receive, send_with_id)
        finally:
            self._count(scope, status, time.monotonic() - started, describe)

    def _refuse(self, error: OperaError, request_id: str) -> Response:
        if isinstance(error, Overloaded):
            self._state.metrics.rejected(error.reason)
            return error_response(error, request_id, status=self._state.options.overload_status)
        if isinstance(error, LimitExceeded):
            self._state.metrics.rejected(error.code)
        return error_response(error, request_id)

    def _log(self, request_id: str, scope: Scope, error: Exception) -> None:
        """Log a defect; its message may quote what was sent, so it is left out unless the settings allow it."""
        if self._state.options.log_prompts:
            logger.error("request %s: %s %s failed", request_id, scope["method"], scope["path"], exc_info=error)
            return
        frames = "".join(traceback.format_tb(error.__traceback__))
        what = f"{type(error).__name__} (message left out, see --log-prompts)"
        logger.error("request %s: %s %s failed: %s\n%s", request_id, scope["method"], scope["path"], what, frames)

    def _count(self, scope: Scope, status: int, seconds: float, describe: Describe) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        status = status or 499  # as in nginx's log: the client went away before the answer
        self._state.metrics.request(route, status, seconds)
        about: dict[str, str | int] = {"http.request.method": scope["method"], "http.route": route}
        about |= {"http.response.status_code": status, "opera.request_id": scope["state"]["request_id"]}
        describe(f"{scope['method']} {route}", about)
        if access.isEnabledFor(logging.INFO):
            ms = round(1e3 * seconds, 3)
            seen = {"method": scope["method"], "route": route, "status": status, "ms": ms}
            access.info("%s %s %d in %.3f ms", scope["method"], route, status, ms, extra=seen)


def _is_page(scope: Scope) -> bool:
    return str(scope["path"]).startswith("/ui")


def error_response(error: OperaError, request_id: str | None, *, status: int | None = None) -> Response:
    """Return `{"error": …}` with the error's own status, unless another is given."""
    body = {**error.body(), "request_id": request_id}
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return JSONResponse({"error": body}, status_code=status or error.status, headers=headers)


def _remedy(request: Request) -> str:
    """Return what to do about a path that is none: most come from a base URL that goes on too long."""
    known = {getattr(route, "path", None) for route in request.app.routes}
    path = request.url.path
    ends = (path[at:] for at, letter in enumerate(path[:1000]) if letter == "/" and at > 0)
    inside = next((end for end in ends if end in known), None)
    if inside is not None:
        return f"give the service's base URL without {path.removesuffix(inside)}, clients add {inside} to it"
    if _is_page(request.scope) and "/ui" not in known:
        return "the live page is there with `serve --ui` only"
    return "the routes are listed at /docs"


def on_http_exception(request: Request, raised: Exception) -> Response:
    """Turn the framework's own exceptions (no such route, wrong method) into error bodies."""
    assert isinstance(raised, HTTPException)
    where = f"{request.method} {request.url.path}"
    if raised.status_code == 404:
        error: OperaError = NotFound(f"no route {where}; {_remedy(request)}")
    elif raised.status_code == 405:
        allowed = (raised.headers or {}).get("Allow", "another method")
        error = MethodNotAllowed(f"{where} is not allowed; use {allowed}")
    else:
        error = InvalidRequest(f"{where}: {raised.detail}")
    response = error_response(error, request.state.request_id)
    response.headers.update(raised.headers or {})
    return response
