"""How many tokens may be on their way at once. Knows nothing of engines.

Nothing awaits on release, so a cancelled caller never leaks its share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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
