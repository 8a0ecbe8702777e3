"""An engine that is watched: when it hangs or dies its work fails at once, retryably, and a new one takes over.

The new one is made afresh, gets the weights that served last, and must score a token before it serves. Knows how
to make an engine; not what it computes. vLLM watches its own process and needs none of this.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from opera_client.errors import EngineFailed, OperaError, Unavailable
from opera_service.engines.adapter import is_adapter
from opera_service.engines.base import Engine, EngineHealth, EngineInfo, Generation, GenerationRequest, Probe
from opera_service.engines.restarts import PAUSES_S, RestartPolicy
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder, as_ids

logger = logging.getLogger(__name__)
T = TypeVar("T")

_LOOK_S = 0.25
_SUSPICIOUS = 3
"""After so many failures in a row the engine has to score a token to be believed alive."""


class Supervisor:
    """`Engine` around another one. Used from one event loop."""

    def __init__(
        self, make: Callable[[], Engine], *, stall_s: float, pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        """Make the first engine; blocks, and raises what `make` raises.

        `make` runs on a thread of its own. An engine that has work and shows no sign of life for `stall_s` seconds
        counts as hung; nothing can stop its thread, so it is left behind with what it holds.
        """
        self._make, self._stall_s, self._policy = make, stall_s, RestartPolicy(pauses_s)
        self._engine: Engine | None = make()
        self._info = self._engine.info
        self._loaded: list[tuple[Path, str]] = []
        self._lost: asyncio.Future[None] | None = None
        self._failures, self._restarts = 0, 0
        self._detail = ""
        self._restarting: asyncio.Task[None] | None = None
        self._closed = False
        self.left_behind = 0
        """Engines that hang in this process; their threads would keep it from ending."""

    @property
    def info(self) -> EngineInfo:
        """The engine's; while there is none, the last one's."""
        if self._engine is not None:
            self._info = self._engine.info
        return self._info

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Score on the engine. Raises `EngineFailed` if it is lost, `Unavailable` while there is none."""
        return await self._watched(lambda engine: engine.score(trees), _all_finite)

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample on the engine; raises like `score`."""
        return await self._watched(lambda engine: engine.generate(requests))

    async def load_weights(self, source: Path, version: str, *, probe: Probe | None = None) -> None:
        """Load on the engine, and remember what to load into the next one."""
        await self._watched(lambda engine: engine.load_weights(source, version, probe=probe))
        self._loaded = [*self._whole(), (source, version)] if is_adapter(source) else [(source, version)]

    async def drop_adapter(self) -> None:
        """Drop it on the engine and from memory."""
        await self._watched(lambda engine: engine.drop_adapter())
        self._loaded = self._whole()

    def health(self) -> EngineHealth:
        """The engine's, with the number of engines that were replaced."""
        gauges = {"restarts": float(self._restarts)}
        if self._engine is None:
            return EngineHealth(ok=False, detail=self._detail, gauges=gauges, hopeless=self._policy.hopeless)
        health = self._engine.health()
        return replace(health, gauges={**health.gauges, **gauges})

    async def aclose(self) -> None:
        """Close the engine; one that hangs is left alone."""
        self._closed = True
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        if self._engine is not None:
            await self._engine.aclose()

    def _whole(self) -> list[tuple[Path, str]]:
        return [(source, version) for source, version in self._loaded if not is_adapter(source)]

    async def _watched(
        self, call: Callable[[Engine], Awaitable[T]], sound: Callable[[T], bool] = lambda _: True
    ) -> T:
        """Await `call`, looking up now and then whether the engine still lives."""
        engine = self._running()
        lost = self._lost = self._lost or asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(call(engine))
        try:
            while not task.done():
                await asyncio.wait({task, lost}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if not task.done() and engine.health().stalled_s > self._stall_s:
                    self.left_behind += self._engine is engine
                    self._replace(engine, f"it showed no sign of life for {self._stall_s:g} s")
                if lost.done() and not task.done():
                    raise EngineFailed(f"the engine was lost: {self._detail}; it restarts, send the request again")
        finally:
            task.cancel()
        try:
            result = task.result()
        except EngineFailed as error:
            await self._suspect(engine, error.message)
            raise
        if sound(result):
            self._failures = 0
        else:
            await self._suspect(engine, "its numbers are not finite")
        return result

    async def _suspect(self, engine: Engine, why: str) -> None:
        """Count a failure of the engine itself, and replace it when it proves dead."""
        self._failures += 1
        if self._failures >= _SUSPICIOUS and self._engine is engine and not await _scores(engine):
            self._replace(engine, why)

    def _running(self) -> Engine:
        if self._engine is None or self._closed:
            error = Unavailable(f"the engine is not running: {self._detail or 'it is closed'}; retry later")
            error.retry_after = 5.0
            raise error
        return self._engine

    def _replace(self, engine: Engine, why: str) -> None:
        """Give up `engine`, fail its work, and begin to make another; once, whoever notices first."""
        if self._engine is not engine:
            return
        logger.error("the engine is replaced: %s", why)
        self._info, self._engine, self._detail = engine.info, None, why
        self._failures = 0
        self._policy.reset()
        lost, self._lost = self._lost, None
        if lost is not None and not lost.done():
            lost.set_result(None)
        self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        while self._engine is None:
            await asyncio.sleep(self._policy.pause_s)
            self._policy.attempts += 1
            try:
                engine = await self._made()
            except OperaError as error:
                self._detail = f"restart {self._policy.attempts} failed: {error.message}"
                logger.error("the engine did not restart (attempt %d): %s", self._policy.attempts, error.message)
            else:
                self._engine, self._detail = engine, ""
                self._restarts += 1
                logger.warning("a new engine serves weights %s", engine.info.weight_version)

    async def _made(self) -> Engine:
        engine = await _on_own_thread(self._make)
        try:
            for source, version in self._loaded:
                await engine.load_weights(source, version)
            if not await _scores(engine):
                raise EngineFailed("the new engine does not score")
        except BaseException:  # cancelled, too: nobody else knows this engine
            await engine.aclose()
            raise
        return engine


async def _scores(engine: Engine) -> bool:
    """Whether the engine scores one token after one token, with a number."""
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, as_ids([0])), as_ids([0]))
    try:
        return _all_finite(await engine.score([builder.build()]))
    except OperaError:
        return False


def _all_finite(scores: Sequence[TreeScores]) -> bool:
    return all(one.finite for one in scores)


async def _on_own_thread(make: Callable[[], Engine]) -> Engine:
    """Run `make` on a daemon thread, for which the end of the process does not wait. Raises `OperaError`."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[Engine] = loop.create_future()

    def settle(outcome: Engine | OperaError) -> None:
        if made.done():
            return
        if isinstance(outcome, OperaError):
            made.set_exception(outcome)
        else:
            made.set_result(outcome)

    def run() -> None:
        outcome: Engine | OperaError
        try:
            outcome = make()
        except OperaError as error:
            outcome = error
        except Exception as error:
            logger.exception("a new engine could not be made")
            outcome = EngineFailed(f"a new engine could not be made: {type(error).__name__}: {error}")
        loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="opera-restart", daemon=True).start()
    return await made
