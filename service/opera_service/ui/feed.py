"""Tells every open page that there is news, at most a few times a second. Pages listen on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable

PAUSE_S = 0.25
"""Least time between two messages to a page."""
HEARTBEAT_S = 10.0
"""A silent line says so after this, so that a dead one is noticed on both sides."""
CHECK_S = 0.5
"""How soon a line ends when it is to."""


class Feed:
    """Counts what is seen; pages wait for the count to change."""

    def __init__(self) -> None:
        self.boot = uuid.uuid4().hex
        self._seen = 0
        self._pages: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def listening(self) -> int:
        """Pages that listen now."""
        return len(self._pages)

    def tell(self) -> None:
        """Say that there is news, from any thread; it costs nothing while nobody listens."""
        self._seen += 1
        if self._pages and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for page in self._pages:
            page.set()

    async def messages(self, over: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Yield server-sent events until `over`: one at once, then one whenever there is news."""
        self._loop = asyncio.get_running_loop()
        news, silent = asyncio.Event(), 0.0
        self._pages.add(news)
        try:
            yield self._message()
            while not over():
                try:
                    await asyncio.wait_for(news.wait(), CHECK_S)
                except TimeoutError:
                    silent += CHECK_S
                    if silent >= HEARTBEAT_S:
                        silent = 0.0
                        yield b": still here\n\n"
                    continue
                news.clear()
                silent = 0.0
                yield self._message()
                await asyncio.sleep(PAUSE_S)
        finally:
            self._pages.discard(news)

    def _message(self) -> bytes:
        return f"event: changed\ndata: {json.dumps({'boot': self.boot, 'seen': self._seen})}\n\n".encode()
