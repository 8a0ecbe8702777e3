"""An HTTP client that is opened on first use and belongs to one event loop of one process.

Called from another loop (`asyncio.run` twice) or after a fork, it opens afresh: sockets are never shared.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import httpx

from opera_client.errors import NotSupported

Connect = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]


class _Session:
    """What is open now, and where it may be used."""

    def __init__(self) -> None:
        self.home = _here()
        self.lock = asyncio.Lock()
        self.stack = AsyncExitStack()
        self.http: httpx.AsyncClient | None = None


def _here() -> tuple[int, int]:
    return os.getpid(), id(asyncio.get_running_loop())


class Connection:
    """Opens with `connect` when first needed.

    `movable` says whether leaving the old loop's connection behind is harmless (sockets) or not (an app).
    """

    def __init__(self, connect: Connect, *, movable: bool) -> None:
        self._connect = connect
        self._movable = movable
        self._session: _Session | None = None

    async def open(self) -> httpx.AsyncClient:
        """Return the open HTTP client of this loop.

        Raises:
            NotSupported: an in-process app is running on another loop, or was lost by a fork.
        """
        if self._session is None or self._session.home != _here():
            if self._session is not None and not self._movable:
                raise NotSupported(
                    "an in-process client stays on the event loop and in the process it was started in; "
                    "make a new client here, or use RewardClient"
                )
            self._session = _Session()
        session = self._session
        async with session.lock:
            if session.http is None:
                session.http = await session.stack.enter_async_context(self._connect())
        return session.http

    async def aclose(self) -> None:
        """Close what is open on this loop; the next `open` starts afresh."""
        session, self._session = self._session, None
        if session is not None and session.home == _here():
            await session.stack.aclose()
