"""A lock between scoring and weight swaps. Knows nothing of engines.

Nothing awaits on release, so a cancelled caller never keeps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ReadWriteLock:
    """Many may use the weights, one may swap them; a waiting swap lets nobody new in."""

    def __init__(self) -> None:
        self._users = 0
        self._idle, self._open = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._open.set()
        self._one_swap = asyncio.Lock()

    @asynccontextmanager
    async def using(self) -> AsyncIterator[None]:
        """Hold the weights as they are."""
        while not self._open.is_set():
            await self._open.wait()
        self._users += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()

    @asynccontextmanager
    async def swapping(self) -> AsyncIterator[None]:
        """Wait until nobody uses the weights, and keep everybody out."""
        async with self._one_swap:
            self._open.clear()
            try:
                await self._idle.wait()
                yield
            finally:
                self._open.set()
