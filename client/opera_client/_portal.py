"""An event loop on a thread of its own, so that plain code can wait for coroutines.

Works in notebooks (whose own loop is busy), from many threads at once, and again after a fork.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """Starts its thread on first use; a daemon, so that a forgotten client never keeps a program alive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine that `make` makes and return its result; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(make(), self._running_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def alive(self) -> bool:
        """Return whether the thread runs in this process (a fork leaves it behind)."""
        return self._loop is not None and self._pid == os.getpid()

    def stop(self) -> None:
        """Stop the thread; `run` would start a new one."""
        if self._loop is None or self._thread is None or not self.alive:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():  # the thread did not survive the fork, nor would a held lock
            self._lock, self._pid, self._loop = threading.Lock(), os.getpid(), None
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._live, args=(self._loop,), daemon=True, name="opera-client"
                )
                self._thread.start()
            return self._loop

    @staticmethod
    def _live(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
