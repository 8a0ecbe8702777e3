"""vLLM's own weight-transfer protocol (the one TRL >= 1.11 speaks), with our versions and atomicity.

    init -> start -> update, update, ... -> finish(version)

Between `start` and `finish` nothing is scored; before `start` everything is of the old weights, after `finish` of
the new ones. An update that fails or is left open returns to the last weights on disk. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

from opera_client.errors import EngineFailed, InvalidRequest
from opera_service.engines.vllm.core import CoreDied
from opera_service.engines.vllm.engine import VllmEngine
from opera_service.engines.vllm.served import ServedVllmWeights, Swap

log = logging.getLogger(__name__)


class WeightTransfer:
    """Updates pushed by a trainer, one at a time. The engine was started with `--vllm.weight_transfer_config`."""

    def __init__(self, engine: VllmEngine, *, timeout_s: float = 600.0) -> None:
        self._engine, self._timeout_s = engine, timeout_s
        self._open: AsyncExitStack | None = None
        self._swap: Swap | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._abandoning: asyncio.Task[None] | None = None
        self._names = count(1)

    @property
    def world_size(self) -> int:
        """Ranks of this engine in the trainer's process group, the trainer itself not counted."""
        return self._engine.world_size

    async def init(self, init_info: dict[str, Any]) -> None:
        """Meet the trainer's process group; answers when every rank is there. Scoring goes on meanwhile."""
        try:
            await self._engine.running().connect_trainer(init_info)
        except CoreDied as error:
            raise EngineFailed("vLLM's engine process died while it met the trainer; try again") from error

    async def start(self) -> None:
        """Wait for work in flight, then keep everybody out. Raises InvalidRequest when an update is open."""
        if self._open is not None:
            raise InvalidRequest("a weight update is already open; finish it first")
        self._open = stack = AsyncExitStack()
        try:
            self._swap = await stack.enter_async_context(self._engine.replacing())
        except BaseException:  # a caller that goes away while it waits at the gate has not begun, either
            self._close()
            raise
        await self._step(self._swap.core.begin_update)
        self._deadline = asyncio.get_running_loop().call_later(self._timeout_s, self._give_up)

    async def update(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Receive some tensors. A failure ends the update: half-written weights never serve."""
        swap = self._opened()
        await self._step(lambda: swap.core.receive(update_info))

    async def finish(self, version: str | None = None) -> str:
        """Serve what was received, as `version`; return the version."""
        swap, version = self._opened(), version or f"transfer-{next(self._names)}"
        await self._step(swap.core.end_update)
        swap.weights = ServedVllmWeights(source="", version=version, revision="transferred", canary=float("nan"))
        stack = self._close()
        await stack.aclose()
        return version

    async def _step(self, call: Any) -> None:
        try:
            await call()
        except BaseException as error:  # a caller that goes away leaves half of the weights behind, too
            await asyncio.shield(self._abandon(error))
            raise

    async def _abandon(self, error: BaseException) -> None:
        """Return to the weights on disk and raise what the engine makes of `error`."""
        stack = self._close()
        await stack.__aexit__(type(error), error, error.__traceback__)

    def _give_up(self) -> None:
        async def run() -> None:
            log.error("a weight update stayed open for %g s; the old weights serve again", self._timeout_s)
            with contextlib.suppress(EngineFailed):
                await self._abandon(EngineFailed("the trainer did not finish its update in time"))

        self._abandoning = asyncio.create_task(run())

    def _opened(self) -> Swap:
        if self._swap is None:
            raise InvalidRequest("no weight update is open; POST /start_weight_update first")
        return self._swap

    def _close(self) -> AsyncExitStack:
        stack, self._open, self._swap = self._open, None, None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        return stack or AsyncExitStack()
