"""Lets no answer out of a replica that may not serve: one that missed new weights, or that nobody hears.

Asked before the work and again when the answer leaves, so that a number never follows newer ones. It also says
which replica answered. Plain ASGI; it knows no route's content.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opera_client.errors import Unavailable
from opera_service.api.middleware import OPEN_PATHS, error_response

REPLICA = "X-Opera-Replica"
AGAIN_S = 1.0


class Fence:
    """Wraps the app of the replica `name`; `may_serve` is asked once `settled` returns."""

    def __init__(
        self, app: ASGIApp, name: str, settled: Callable[[], Awaitable[None]], may_serve: Callable[[], bool]
    ) -> None:
        self._app, self._name, self._settled, self._may_serve = app, name, settled, may_serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 503; probes and the documentation always pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        always = scope["path"] in OPEN_PATHS
        if not always:
            await self._settled()
        held = False

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REPLICA] = self._name
                del headers["X-Request-Id"]  # Serve's proxy adds the same
            await send(message)

        async def guarded(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and not always and not self._may_serve():
                held = True
                await self._refuse(scope, receive, named)
            if not held:
                await named(message)

        if always or self._may_serve():
            await self._app(scope, receive, guarded)
        else:
            await self._refuse(scope, receive, named)

    @staticmethod
    async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
        error = Unavailable("this replica is waiting for the weights that the others serve; ask again")
        error.retry_after = AGAIN_S
        await error_response(error, Headers(scope=scope).get("x-request-id"))(scope, receive, send)
