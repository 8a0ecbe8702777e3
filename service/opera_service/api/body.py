"""Request bodies in, answers out: the size limit, how long a body may take, and work off the loop.

It knows pydantic models and bytes; no route.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from opera_client.errors import BodyTooLarge, DeadlineExceeded
from opera_service.api.bounded_json import parse

Model = TypeVar("Model", bound=BaseModel)

PATIENCE_S = 120.0
"""How long a body may take to arrive: a sender that dawdles must not hold a connection for ever."""
SMALL = 4_096
"""Bytes up to which parsing on the event loop costs less than a trip to a thread."""


async def read_body(request: Request, model: type[Model], *, limit: int) -> Model:
    """Return the request's body as `model`.

    Raises `BodyTooLarge` as soon as `limit` bytes are exceeded, `DeadlineExceeded` when it does not come, and what
    `parse` raises.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            chunks, size = await _received(request, limit)
    except TimeoutError:
        raise DeadlineExceeded(f"the body was not all there after {PATIENCE_S:g} s; send it again") from None
    if size > limit:
        raise BodyTooLarge(
            f"the body is larger than the limit of {limit} bytes (--max-body-mb); "
            "send fewer groups or items at once"
        )
    data = b"".join(chunks)
    if len(data) <= SMALL:
        return parse(data, model)
    return await asyncio.to_thread(parse, data, model)


async def _received(request: Request, limit: int) -> tuple[list[bytes], int]:
    """Return what came, up to `limit` bytes of it, and how many bytes that was."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > 4 * limit:
            break  # until here the rest is read and dropped: a client cut off while it sends misses the answer
    return chunks, size


async def dump(answer: BaseModel, *, large: bool) -> bytes:
    """Return `answer` as JSON."""
    if large:
        return await asyncio.to_thread(_dump, answer)
    return _dump(answer)


def _dump(answer: BaseModel) -> bytes:
    return answer.__pydantic_serializer__.to_json(answer)


async def small(answer: BaseModel, *, status: int = 200) -> Response:
    """Return a small answer as JSON."""
    return Response(await dump(answer, large=False), status_code=status, media_type="application/json")
