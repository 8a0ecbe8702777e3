"""Worker threads that no training run holds alone.

Tokenising and reading are work of milliseconds, or of seconds for the longest thoughts that are allowed. So that
nobody waits behind somebody else's, one run may hold all threads but one. Knows functions and names of runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

P = ParamSpec("P")
T = TypeVar("T")


class SharedThreads:
    """`count` threads. Used from one event loop."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="opera-encode")
        self._most = max(1, count - 1)
        self._places: WeakValueDictionary[str | None, asyncio.Semaphore] = WeakValueDictionary()
        """Of each run that uses or wants a thread."""

    async def run(self, run: str | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `function` returns or raise what it raises, in a thread and in its caller's context.

        What is no run's work has None for a run, and its share. A cancelled caller leaves at once; what has begun
        goes on, and keeps its place until it ends.
        """
        places = self._places.get(run)
        if places is None:
            places = self._places[run] = asyncio.Semaphore(self._most)
        await places.acquire()
        loop, context = asyncio.get_running_loop(), copy_context()

        def ended(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(places.release)

        try:
            future = self._executor.submit(lambda: context.run(function, *args, **kwargs))
        except RuntimeError:  # it has been closed
            places.release()
            raise
        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)
