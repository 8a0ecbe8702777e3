"""How many connections there may be, and how long one may take to say what it wants.

One client that opens thousands and says nothing must not keep others out: a connection without a request in
flight, or one whose body has stopped to come, gives way to a new one. It knows uvicorn and asyncio; no route.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from opera_client.errors import Overloaded
from opera_client.wire.common import ErrorBody, ErrorDetail

logger = logging.getLogger(__name__)

_SPARE_DESCRIPTORS = 128
"""For files, pipes of worker processes, connections to other services, and connections about to be refused."""


def room_for(wanted: int) -> int:
    """Return how many connections can be held: `wanted`, or fewer where the process may not open as many files.

    Raises the process's own limit as far as it may.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    held = max(soft - _SPARE_DESCRIPTORS, 1)
    logger.warning("only %d connections at a time: the process may open %d files (ulimit -n)", held, soft)
    return held


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a time for a request's head and a bound on connections."""

    max_connections = 16_384
    head_seconds = 10.0
    _since = 0.0
    """When it became idle or last sent something, in the loop's time."""
    _head_timer: asyncio.TimerHandle | None = None
    _left: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, deque[Callable[[], None]]]] = WeakKeyDictionary()
    """What tells requests that their connections are gone, for all connections of a loop."""

    @property
    def idle(self) -> bool:
        """Whether no request is in flight."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def gives_way(self) -> bool:
        """Whether a new connection may have its place: it is idle, or owes the rest of a body for too long.

        What is not read because the service does not take it (a large body waits for its turn) is not owed.
        """
        if self.idle:
            return True
        owes = self.cycle.more_body and not self.flow.read_paused
        return owes and self.loop.time() - self._since > self.head_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, in the place of the one that has been silent longest where there is no other."""
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(self.connections) > self.max_connections:
            others = (one for one in self.connections if one is not self and isinstance(one, BoundedProtocol))
            longest = min((one for one in others if one.gives_way), key=lambda one: one._since, default=None)  # noqa: SLF001
            if longest is None:
                self._refuse()
                return
            longest._drop()  # noqa: SLF001
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Read on; the time for a head ends when it is whole."""
        self._since = self.loop.time()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._head_timer is None:
            self._expect_head()

    def on_response_complete(self) -> None:
        """Begin to be idle."""
        self._since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; whoever works for it is told, one a round of the event loop.

        A client that dies takes all its connections with it. Hundreds of requests that end in one round would keep
        everybody else waiting for seconds.
        """
        self._stop_timer()
        if self.idle:
            super().connection_lost(exc)
            return
        left = self._left.setdefault(self.loop, deque())
        left.append(partial(super().connection_lost, exc))
        if len(left) == 1:
            self.loop.call_soon(_tell_next, self.loop, left)

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._drop_if_idle)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _drop_if_idle(self) -> None:
        self._head_timer = None
        if self.idle:
            self._drop()

    def _drop(self) -> None:
        self.connections.discard(self)
        self.transport.abort()

    def _refuse(self) -> None:
        error = Overloaded(f"all {self.max_connections} connections are in use; come back later")
        body = ErrorBody(error=ErrorDetail(**error.body())).model_dump_json().encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.connections.discard(self)
        self.transport.close()


def _tell_next(loop: asyncio.AbstractEventLoop, left: deque[Callable[[], None]]) -> None:
    try:
        left[0]()
    finally:
        left.popleft()
        if left:
            loop.call_soon(_tell_next, loop, left)


def protocol(max_connections: int, head_seconds: float) -> type[BoundedProtocol]:
    """Return the protocol with these bounds, as uvicorn takes it."""
    bounds = {"max_connections": room_for(max_connections), "head_seconds": head_seconds}
    return type("Protocol", (BoundedProtocol,), bounds)


class LoopErrors:
    """Tells what goes wrong in the event loop itself; accepting without descriptors, once a second at most.

    asyncio reports each of up to 2,048 failed accepts of one round, with its traceback.
    """

    def __init__(self) -> None:
        self._told = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle one report, as `loop.set_exception_handler` wants it."""
        error = context.get("exception")
        if isinstance(error, OSError) and "accept" in context.get("message", ""):
            if loop.time() >= self._told + 1.0:
                self._told = loop.time()
                logger.error("no connection can be taken: %s (ulimit -n)", error.strerror)
            return
        loop.default_exception_handler(context)


class OnceASecond(logging.Filter):
    """Lets a line of a logger through once a second, however often a stranger causes it."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is shown; lines with arguments or tracebacks, which differ, always are."""
        line = str(record.msg)
        if record.args or record.exc_info or record.created >= self._told.get(line, 0.0) + 1.0:
            self._told[line] = record.created
            return True
        return False
