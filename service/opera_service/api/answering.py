"""How a scoring route answers: read the body, run the pipeline until done or the client leaves, add cost headers.

It knows models and headers; not what a pipeline computes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from opera_client.errors import InvalidRequest
from opera_client.wire import ExpandResult, RankResult, RewardResult, ScoreResult, Timing, Usage
from opera_service.api.authenticator import given_key
from opera_service.api.body import SMALL, dump, read_body
from opera_service.api.idempotency import Answered
from opera_service.pipelines.member import Members
from opera_service.pipelines.service import Service
from opera_service.server.lifecycle import Lifecycle

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result", RewardResult, RankResult, ExpandResult, ScoreResult)
DEADLINE = "X-Request-Deadline"
IDEMPOTENCY_KEY, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"
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


@dataclass(frozen=True)
class Finished:
    """What a pipeline made of a request."""

    answer: BaseModel
    usage: Usage
    timing: Timing
    weight_version: str


async def finished(work: Awaitable[Result]) -> Finished:
    """Return what `work` made."""
    answer = await work
    return Finished(answer, answer.usage, answer.timing_ms, answer.model.weight_version)


async def reply(
    request: Request,
    body: BaseModel,
    work: Callable[[], Coroutine[Any, Any, Finished]],
    *,
    deadline: float | None,
) -> Response:
    """Answer with what `work` makes, or made before for the same `Idempotency-Key` and body on these weights.

    Raises what `work` raises, `InvalidRequest` for an unfit key, `IdempotencyKeyReused`.
    """
    key = _idempotency_key(request)

    async def compute() -> Answered:
        return await _answered(request, await work())

    if key is None:
        answered, again = await until_gone(request, compute()), False
    else:
        fingerprint = await asyncio.to_thread(_fingerprint, body)
        name = request.url.path, sha256(given_key(request.headers).encode()).digest(), key
        answers = lifecycle_of(request).idempotency.answer(name, fingerprint, compute, deadline=deadline)
        answered, again = await until_gone(request, answers)
    headers = {**answered.headers, **({REPLAYED: "true"} if again else {})}
    return Response(answered.content, media_type="application/json", headers=headers)


def _idempotency_key(request: Request) -> str | None:
    header = request.headers.get(IDEMPOTENCY_KEY)
    if header is None:
        return None
    # A structured-field string (RFC 9651) by the draft, bare in most clients.
    key = header[1:-1] if len(header) > 1 and header[0] == header[-1] == '"' else header
    if not 0 < len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise InvalidRequest("must be 1 to 255 printable ASCII characters, such as a UUID", field=IDEMPOTENCY_KEY)
    return key


def _fingerprint(body: BaseModel) -> bytes:
    """Return a digest of all that is asked; a retry may have less time left, which makes it no other request."""
    return sha256(body.model_dump_json(exclude={"timeout_s"}).encode()).digest()


async def respond(request: Request, answer: BaseModel, usage: Usage, timing: Timing) -> Response:
    """Return `answer` as JSON with the cost headers."""
    answered = await _answered(request, Finished(answer, usage, timing, ""))
    return Response(answered.content, media_type="application/json", headers=answered.headers)


async def _answered(request: Request, done: Finished) -> Answered:
    usage, timing = done.usage, done.timing
    # Answers grow with what was asked; small requests can ask for many numbers, but not for large texts.
    large = usage.scored_tokens > SMALL_ANSWER or int(request.headers.get("content-length", SMALL + 1)) > SMALL
    headers = {
        "X-Queue-Ms": f"{timing.queue:.3f}",
        "X-Engine-Ms": f"{timing.engine:.3f}",
        "X-Tokens-Computed": str(usage.tokens_computed),
    }
    return Answered(await dump(done.answer, large=large), headers, done.weight_version)
