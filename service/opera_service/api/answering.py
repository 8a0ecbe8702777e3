"""How a scoring route answers: read the body, run the pipeline until done or the client leaves, add cost headers.

It knows models and headers; not what a pipeline computes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from opera_client.errors import InvalidRequest
from opera_client.wire import Timing, Usage
from opera_service.api.body import SMALL, dump, read_body
from opera_service.lifecycle import Lifecycle
from opera_service.pipelines.member import Members
from opera_service.pipelines.service import Service

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)
DEADLINE = "X-Request-Deadline"
SMALL_ANSWER = 2_000
"""Log-probs up to which an answer is serialised on the event loop."""


def lifecycle_of(request: Request) -> Lifecycle:
    """Return the app's lifecycle."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    return lifecycle


def service_of(request: Request) -> Service:
    """Return the app's service. Raises `Unavailable` while it is starting."""
    return lifecycle_of(request).service


def members_of(request: Request) -> Members:
    """Return where the app's groups gather. Raises `Unavailable` while it is starting."""
    return lifecycle_of(request).members


async def read(request: Request, model: type[Body]) -> Body:
    """Return the body as `model`; see `read_body` for its errors."""
    return await read_body(request, model, limit=lifecycle_of(request).settings.max_body_bytes)


def deadline_of(request: Request, timeout_s: float | None) -> float | None:
    """Return the earlier of `timeout_s` from now and the header's absolute unix time, on the service's clock."""
    header = request.headers.get(DEADLINE)
    try:
        unix = None if header is None else float(header)
    except ValueError:
        unix = math.nan
    if unix is not None and not math.isfinite(unix):
        raise InvalidRequest(f"{DEADLINE} is {header!r}; give unix seconds, such as 1767225600.5", field=DEADLINE)
    return service_of(request).deadline(timeout_s, unix)


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; cancel it when the client disconnects, so that its trees leave the queue."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def respond(request: Request, answer: BaseModel, usage: Usage, timing: Timing) -> Response:
    """Return `answer` as JSON with the cost headers."""
    # Answers grow with what was asked; small requests can ask for many numbers, but not for large texts.
    large = usage.scored_tokens > SMALL_ANSWER or int(request.headers.get("content-length", SMALL + 1)) > SMALL
    headers = {
        "X-Queue-Ms": f"{timing.queue:.3f}",
        "X-Engine-Ms": f"{timing.engine:.3f}",
        "X-Tokens-Computed": str(usage.tokens_computed),
    }
    return Response(await dump(answer, large=large), media_type="application/json", headers=headers)
