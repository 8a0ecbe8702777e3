"""Two small asyncio tools: a gate between scoring and weight swaps, and a budget of tokens in flight.

Know nothing of engines. Neither awaits on release, so a cancelled caller never leaks its share.
"""

from __future__ import annotations

import asyncio
from collections import deque
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


class TokenBudget:
    """A first-in-first-out semaphore counted in tokens; something larger than the budget goes alone."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.in_flight = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, tokens: int) -> AsyncIterator[None]:
        """Wait for room for `tokens` and give it back at the end."""
        tokens = min(tokens, self.total)
        if self._waiting or self.in_flight + tokens > self.total:
            await self._wait(tokens)
        else:
            self.in_flight += tokens
        try:
            yield
        finally:
            self._give(tokens)

    async def _wait(self, tokens: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(tokens)  # it was our turn, but we are gone
            else:
                self._wake()
            raise

    def _give(self, tokens: int) -> None:
        self.in_flight -= tokens
        self._wake()

    def _wake(self) -> None:
        while self._waiting and (
            self._waiting[0][1].cancelled() or self.in_flight + self._waiting[0][0] <= self.total
        ):
            tokens, turn = self._waiting.popleft()
            if not turn.cancelled():
                self.in_flight += tokens
                turn.set_result(None)
