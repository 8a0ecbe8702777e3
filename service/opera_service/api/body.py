"""Request bodies in, answers out: the size limit, how long a body may take, and work off the loop.

It knows pydantic models and bytes; no route.
"""

from __future__ import annotations

import asyncio
import ctypes
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
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
LARGE = 2**20
"""Bytes from which a body needs a place of `LargeBodies`."""
LARGE_PATIENCE_S = 30.0
"""How long a body may hold such a place before it is whole: at the largest size allowed, about 1 MB a second."""
RETURNED_AFTER_S = 1.0
"""After a large body, its memory is returned: by then most of it is free."""


class LargeBodies:
    """Bounds what large bodies cost before anything is known of them: memory, and the interpreter's lock.

    A few are read at a time; the others wait unread in their sockets. One is parsed at a time: the parser holds
    the lock for up to 50 ms at a stretch, and several parsers would make the event loop wait for each of them.
    """

    def __init__(self, places: int = 3) -> None:
        self.places = asyncio.Semaphore(places)
        self.parser = ThreadPoolExecutor(1, thread_name_prefix="opera-large-body")
        self._returning = False

    def return_memory(self) -> None:
        """Give what large bodies took back to the system, soon and off the loop.

        The allocator keeps it otherwise, in pieces: a few hostile bodies took 150 MB that nobody used any more.
        """
        if not self._returning:
            self._returning = True
            asyncio.get_running_loop().call_later(RETURNED_AFTER_S, self._return)

    def _return(self) -> None:
        self._returning = False
        self.parser.submit(trim_memory)


def trim_memory() -> None:
    """Return to the system what the allocator holds of freed memory, where it can be asked to."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


async def read_body(request: Request, model: type[Model], *, limit: int, large: LargeBodies) -> Model:
    """Return the request's body as `model`.

    Raises `BodyTooLarge` as soon as `limit` bytes are exceeded, `DeadlineExceeded` when it does not come, and what
    `parse` raises.
    """
    async with AsyncExitStack() as place:
        data = await _received(request, limit, large, place)
        if len(data) <= SMALL:
            return parse(data, model)
        if len(data) <= LARGE:
            return await asyncio.to_thread(parse, data, model)
        return await asyncio.get_running_loop().run_in_executor(large.parser, parse, data, model)


async def _received(request: Request, limit: int, large: LargeBodies, place: AsyncExitStack) -> bytearray:
    """Return the body, having entered `place` where it is large."""
    data = bytearray()
    size = 0
    try:
        async with asyncio.timeout(PATIENCE_S) as patience:
            async for chunk in request.stream():
                if size <= LARGE < size + len(chunk):
                    await place.enter_async_context(large.places)
                    place.callback(large.return_memory)
                    patience.reschedule(asyncio.get_running_loop().time() + LARGE_PATIENCE_S)
                size += len(chunk)
                if size <= limit:
                    data += chunk
                elif size > 4 * limit:
                    break  # until here the rest is dropped: a client that is cut off as it sends misses the answer
    except TimeoutError:
        raise DeadlineExceeded(
            f"the body was not all there in time: {PATIENCE_S:g} s, or {LARGE_PATIENCE_S:g} s from its first "
            f"{LARGE} bytes on; send it again, or send less at once"
        ) from None
    if size > limit:
        raise BodyTooLarge(
            f"the body is larger than the limit of {limit} bytes (--max-body-mb); "
            "send fewer groups or items at once"
        )
    return data


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
