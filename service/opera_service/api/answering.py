"""How a scoring route answers: read the body, run the pipeline until done or the client leaves, add cost headers.

It knows models and headers; not what a pipeline computes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from opera_client.errors import InvalidRequest
from opera_service.api.authenticator import given_key
from opera_service.api.body import SMALL, dump, read_body
from opera_service.api.idempotency import SerializedAnswer
from opera_service.api.state import runtime_of, state_of
from opera_service.pipelines.costed import Costed, CostedResult
from opera_service.pipelines.runtime import Runtime

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)
Sent = TypeVar("Sent", bound=BaseModel, contravariant=True)
DEADLINE = "X-Request-Deadline"
IDEMPOTENCY_KEY, REPLAYED = "Idempotency-Key", "Idempotency-Replayed"
SMALL_ANSWER = 2_000
"""Log-probs up to which an answer is serialised on the event loop."""


@dataclass(frozen=True)
class Call(Generic[Body]):
    """One scoring request, read."""

    request: Request
    runtime: Runtime
    body: Body
    deadline: float | None
    """A time of the runtime's clock, after which the answer is of no use."""


class Pipeline(Protocol[Sent]):
    """What computes an answer."""

    def __call__(
        self, runtime: Runtime, request: Sent, /, *, deadline: float | None
    ) -> Coroutine[Any, Any, Costed | CostedResult]:
        """Return the answer. `deadline` is a time of the runtime's clock."""
        ...


async def receive(request: Request, model: type[Body], *, timeout_s: float | None = None) -> Call[Body]:
    """Read a scoring request whose body is `model`; it has `timeout_s` unless the body says so itself.

    Raises `Unavailable` while the service is starting, and what `read` raises.
    """
    runtime = runtime_of(request)
    body = await read(request, model)
    timeout_s = getattr(body, "timeout_s", timeout_s)
    return Call(request, runtime, body, runtime.deadline(timeout_s, _unix_deadline(request)))


async def read(request: Request, model: type[Body]) -> Body:
    """Return the body as `model`; see `read_body` for its errors."""
    state = state_of(request)
    return await read_body(request, model, limit=state.options.max_body_bytes, large=state.large_bodies)


def _unix_deadline(request: Request) -> float | None:
    header = request.headers.get(DEADLINE)
    try:
        unix = None if header is None else float(header)
    except ValueError:
        unix = math.nan
    if unix is not None and not math.isfinite(unix):
        raise InvalidRequest(f"{DEADLINE} is {header!r}; give unix seconds, such as 1767225600.5", field=DEADLINE)
    return unix


async def respond(call: Call[Body], pipeline: Pipeline[Body], *, replays: bool = True) -> Response:
    """Answer with what `pipeline` makes, and with its cost in headers.

    With `replays`, what was made before for the same `Idempotency-Key` and body on these weights is given again.
    Raises what `pipeline` raises, `InvalidRequest` for an unfit key, `IdempotencyKeyReused`.
    """
    request = call.request
    key = _idempotency_key(request) if replays else None

    async def compute() -> SerializedAnswer:
        made = await pipeline(call.runtime, call.body, deadline=call.deadline)
        return await _serialized(request, made if isinstance(made, Costed) else Costed.of(made))

    if key is None:
        answer, again = await _until_gone(request, compute()), False
    else:
        fingerprint = await asyncio.to_thread(_fingerprint, call.body)
        name = request.url.path, sha256(given_key(request.headers).encode()).digest(), key
        cache = state_of(request).idempotency
        answering = cache.answer(name, fingerprint, compute, deadline=call.deadline)
        answer, again = await _until_gone(request, answering)
    headers = {**answer.headers, **({REPLAYED: "true"} if again else {})}
    return Response(answer.content, media_type="application/json", headers=headers)


async def _until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
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


async def _serialized(request: Request, made: Costed) -> SerializedAnswer:
    # Answers grow with what was asked; small requests can ask for many numbers, but not for large texts.
    sent = int(request.headers.get("content-length", SMALL + 1))
    headers = {
        "X-Queue-Ms": f"{made.timing.queue:.3f}",
        "X-Engine-Ms": f"{made.timing.engine:.3f}",
        "X-Tokens-Computed": str(made.usage.tokens_computed),
        "X-Route": made.usage.route,
    }
    content = await dump(made.answer, large=made.usage.scored_tokens > SMALL_ANSWER or sent > SMALL)
    return SerializedAnswer(content, headers, made.weight_version)
