"""Where a service stands: starting, ok, failed or draining. It knows no setting and no engine by name."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

from opera_client.errors import EngineFailed, OperaError, Unavailable
from opera_client.wire import Health
from opera_service.engines.pair import PairEngine
from opera_service.engines.supervisor import Supervisor
from opera_service.pipelines.runtime import Runtime

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5.0
"""What callers are asked to wait while the model loads; how long that takes is not known."""

Build = Callable[[asyncio.AbstractEventLoop], Runtime]
"""Makes the runtime that lives on the given loop; called on another thread. Raises `OperaError`, saying why."""


class Lifecycle:
    """Brings a runtime up and down. Used from one event loop."""

    def __init__(self, build: Build, *, drain_timeout_s: float) -> None:
        self._build, self._drain_timeout_s = build, drain_timeout_s
        self._runtime: Runtime | None = None
        self._failure: OperaError | None = None
        self._warming: asyncio.Task[None] | None = None
        self._loaded = asyncio.Event()
        self._draining = self._stuck = False
        self._drain_until: float | None = None
        """In the monotonic clock's time: requests in flight and the engine share one `drain_timeout_s`."""

    def start(self) -> None:
        """Begin to build the runtime, in a thread."""
        loop = asyncio.get_running_loop()
        # A daemon: whoever interrupts a long load wants to leave now.
        threading.Thread(target=self._load, args=(loop,), name="opera-load", daemon=True).start()

    async def ready(self) -> Runtime:
        """Wait until requests can be served. Raises what building raised."""
        await self._loaded.wait()
        return self.runtime

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            built: Runtime | OperaError = self._build(loop)
        except OperaError as error:
            built = error
        except Exception as error:
            logger.exception("the service could not be started")
            built = EngineFailed(f"the service could not be started: {type(error).__name__}: {error}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._finish, built)

    def _finish(self, built: Runtime | OperaError) -> None:
        if isinstance(built, OperaError):
            self._failure = built
            self._loaded.set()
            return
        self._runtime = built
        self._warming = asyncio.get_running_loop().create_task(self._warm_up(built))

    async def _warm_up(self, runtime: Runtime) -> None:
        """Measure what the first request would have to wait for; where that fails, it is that request's to say."""
        try:
            await runtime.noise.logprob_error()
        except OperaError as error:
            logger.warning("the engine's noise could not be measured at start-up: %s", error.message)
        finally:
            self._loaded.set()

    @property
    def runtime(self) -> Runtime:
        """What serves. Raises `Unavailable` while it is loading, or what made loading fail."""
        if self._runtime is not None:
            return self._runtime
        if self._failure is not None:
            raise self._failure
        error = Unavailable("the model is still loading; retry in a few seconds")
        error.retry_after = RETRY_AFTER_S
        raise error

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._runtime is not None

    @property
    def draining(self) -> bool:
        """Whether no new work is wanted."""
        return self._draining

    def health(self) -> Health:
        """Say whether requests can be served now."""
        if self._failure is not None:
            return Health(status="failed", detail=self._failure.message)
        if self._runtime is None:
            return Health(status="starting", detail="the model is loading")
        trees, branches = self._runtime.tree_dispatcher, self._runtime.sampling_dispatcher
        queue = {"queued_trees": trees.queued_items, "queued_tokens": trees.queued_tokens + branches.queued_tokens}
        if self._draining:
            return Health(status="draining", detail="finishing the requests in flight", **queue)
        engine = self._runtime.engine.health()
        return Health(status="ok" if engine.ok else "failed", detail=engine.detail, **queue)

    @property
    def alive(self) -> bool:
        """Whether this process may yet serve; otherwise only a new one can."""
        return self._runtime is None or not self._runtime.engine.health().hopeless

    @property
    def stuck(self) -> bool:
        """Whether an engine's thread would keep the process from ending by itself."""
        engine = self._runtime.engine if self._runtime else None
        return self._stuck or (isinstance(engine, Supervisor | PairEngine) and engine.left_behind > 0)

    def drain(self) -> None:
        """Tell probes that no new work is wanted; requests in flight go on, members of unfinished groups end."""
        self._draining = True
        if self._drain_until is None:
            self._drain_until = time.monotonic() + self._drain_timeout_s
        if self._runtime is not None:
            self._runtime.gatherer.drain()

    async def stop(self) -> None:
        """Finish queued work and free the engine; a load that is under way is left behind."""
        self.drain()
        if self._runtime is None:
            return
        if self._warming is not None:
            self._warming.cancel()
        try:
            assert self._drain_until is not None
            async with asyncio.timeout(max(1.0, self._drain_until - time.monotonic())):
                await self._runtime.aclose()
        except TimeoutError:
            self._stuck = True
            logger.error("the engine still works on something; the process ends without it")
        self._runtime.updates.close()
