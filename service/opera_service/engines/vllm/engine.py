"""The vLLM engine: token trees and generation through one in-process vLLM, weights swapped between trees.

Everything that can happen to a running vLLM is handled here: lost rows, new weights, a dead engine process.
Knows no text and no reward; `core` holds the calls into vLLM.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from opera_client.errors import ContextTooLong, EngineFailed, NotSupported, OperaError, Unavailable
from opera_service.engines.base import EngineHealth, EngineInfo, Generation, GenerationRequest
from opera_service.engines.vllm import checkpoint, probe
from opera_service.engines.vllm.core import Core, CoreDied
from opera_service.engines.vllm.gate import TokenBudget, WeightGate
from opera_service.engines.vllm.plan import Plan, Prompt, Rows
from opera_service.engines.vllm.settings import VllmSettings
from opera_service.scoring.tree import TokenTree, TreeScores

log = logging.getLogger(__name__)
T = TypeVar("T")

_WATCH_S = 0.5
_RESTART_PAUSES_S = (0.0, 1.0, 5.0, 15.0, 60.0)
"""Waits before successive attempts to restart; the last repeats."""


class VllmEngine:
    """`Engine` over vLLM's AsyncLLM. Make one with `load`; one event loop for its whole life."""

    def __init__(
        self, core: Core, model: str, settings: VllmSettings, *, weight_version: str, canary: float
    ) -> None:
        self._core: Core | None = core
        self._model, self._settings = model, settings
        self._source, self._version, self._canary = model, weight_version, canary
        local = Path(model).is_dir()
        self._name = Path(model).resolve().name if local else model
        self._revision = checkpoint.content_hash(Path(model)) if local else "unknown"
        self._shapes = checkpoint.tensor_shapes(Path(model)) if local else None
        self._limits = core
        self._gate, self._budget = WeightGate(), TokenBudget(settings.inflight_tokens)
        self._rescored, self._restarts, self._start_s = 0, 0, 30.0
        self._detail, self._closing = "", False
        self._watch = asyncio.create_task(self._keep_alive())

    @classmethod
    async def load(
        cls,
        model: str | Path,
        *,
        weight_version: str = "0",
        settings: VllmSettings | None = None,
        **engine_args: Any,
    ) -> VllmEngine:
        """Start vLLM on `model`, a folder or a hub id, and prove that it scores exactly from its cache.

        `engine_args` are vLLM's AsyncEngineArgs. Raises InvalidRequest for one that does not exist or is not to
        be changed, EngineFailed when vLLM does not start or the probe finds wrong numbers.
        """
        if settings is None:
            settings = VllmSettings(**engine_args)
        elif engine_args:
            raise TypeError("give settings or engine arguments, not both")
        core = await _start(str(model), settings)
        try:
            canary = await _alive(probe.check(core))
            return cls(core, str(model), settings, weight_version=weight_version, canary=canary)
        except BaseException:
            await core.stop()
            raise

    @property
    def info(self) -> EngineInfo:
        """The model as of now; one token of vLLM's length is kept for the sample it insists on."""
        limits = self._limits
        return EngineInfo(
            engine="vllm",
            model=self._name,
            revision=self._revision,
            weight_version=self._version,
            dtype=limits.dtype,
            vocab_size=limits.vocab_size,
            max_context=limits.max_model_len - 1,
            max_batch_tokens=self._settings.inflight_tokens,
            route=f"prefix-cache/{limits.runner}",
        )

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree, all on one weight version, each distinct token computed about once.

        Raises NotSupported for entropies, EngineFailed (retryable) when the engine process dies meanwhile,
        Unavailable while it restarts.
        """
        plan = Plan(trees)
        plan.check(vocab_size=self._limits.vocab_size, max_context=self.info.max_context)
        self._running()
        async with self._gate.using():
            core, version = self._running(), self._version
            asked = [(index, self._score(core, plan.prompts[index])) for index in plan.order]
            found = await self._answered([call for _, call in asked])
        rows = dict(zip([index for index, _ in asked], found, strict=True))
        return plan.scores([rows[index] for index in range(len(rows))], version)

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample continuations of every request; with a seed, continuation i of a request uses seed + i."""
        for request in requests:
            if len(request.prompt_ids) + request.max_tokens > self._limits.max_model_len:
                raise ContextTooLong(
                    f"{len(request.prompt_ids)} prompt tokens and {request.max_tokens} new ones exceed the "
                    f"model's length of {self._limits.max_model_len}; lower max_tokens"
                )
        self._running()
        async with self._gate.using():
            core = self._running()
            return await self._answered([self._sample(core, request) for request in requests])

    async def load_weights(self, source: Path, version: str) -> None:
        """Serve the checkpoint folder `source` as `version`: work in flight ends on the old weights first.

        A failed load leaves the old weights serving. The folder must stay readable while it is served, because a
        restart reads it again. Raises InvalidRequest for weights that do not fit the model, EngineFailed when the
        loaded model does not pass the probe.
        """
        shapes = await asyncio.to_thread(checkpoint.tensor_shapes, source)
        if self._shapes is not None:
            checkpoint.must_match(shapes, self._shapes)
        revision = await asyncio.to_thread(checkpoint.content_hash, source)
        self._running()
        async with self._gate.swapping():
            core = self._running()
            try:
                await probe.fill(core)
                await core.load(str(source))
                canary = await probe.check(core)
            except (CoreDied, OperaError) as error:
                await self._return_to_old(core)
                raise EngineFailed(
                    f"weights {version!r} were not taken, {self._version!r} still serves: {error}"
                ) from error
            self._source, self._version, self._revision, self._canary = str(source), version, revision, canary
        log.info("weights %s from %s, canary %.6f", version, source, canary)

    def health(self) -> EngineHealth:
        """Whether scoring works now; counts of what went wrong and was repaired."""
        alive = self._core is not None and not self._core.dead
        return EngineHealth(
            ok=alive,
            detail="" if alive else self._detail or "vLLM's engine process died",
            gauges={
                "vllm_rescored_prompts": float(self._rescored),
                "vllm_restarts": float(self._restarts),
                "vllm_inflight_tokens": float(self._budget.in_flight),
                "vllm_canary_mean_logprob": self._canary,
            },
        )

    async def aclose(self) -> None:
        """Let work in hand finish, then stop vLLM."""
        self._closing, self._detail = True, "closing"
        async with self._gate.swapping():
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            core, self._core = self._core, None
            if core is not None:
                await core.stop()

    async def _score(self, core: Core, prompt: Prompt) -> Rows:
        async with self._budget.hold(len(prompt.ids)):
            rows = await core.score(prompt)
            if rows is None:
                self._rescored += 1
                log.warning("vLLM lost scored rows of a prompt of %d tokens; scoring it afresh", len(prompt.ids))
                rows = await core.score(prompt, recompute=True)
        if rows is None:
            raise EngineFailed("vLLM lost scored rows twice, with and without its prefix cache")
        return rows

    async def _sample(self, core: Core, request: GenerationRequest) -> list[Generation]:
        async with self._budget.hold(request.n * (len(request.prompt_ids) + request.max_tokens)):
            return await core.sample(request)

    async def _answered(self, calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run calls together, in order of submission; the first failure ends the others and is raised."""
        tasks = [asyncio.create_task(call) for call in calls]
        try:
            return await _alive(asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _running(self) -> Core:
        if self._core is None or self._closing:
            error = Unavailable(f"the vLLM engine is not running: {self._detail}; retry later")
            error.retry_after = self._start_s
            raise error
        return self._core

    async def _return_to_old(self, core: Core) -> None:
        """Serve the old weights again, in the same process if it proves to hold them, else in a new one."""
        try:
            await core.load(self._source)
            canary = await probe.check(core)
            if abs(canary - self._canary) <= probe.tolerance(core):
                return
        except (CoreDied, OperaError) as error:
            log.warning("the old weights could not be put back in place (%s); restarting vLLM with them", error)
        await self._restart()

    async def _keep_alive(self) -> None:
        """Notice a dead engine process, whether or not somebody is waiting for it, and replace it."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if self._core is not None and self._core.dead:
                self._detail = "vLLM's engine process died and is being restarted"
                async with self._gate.swapping():
                    await self._restart()

    async def _restart(self) -> None:
        """Replace the engine process, on the weights that were served last. The caller holds the gate."""
        old, self._core = self._core, None
        if old is not None:
            await old.stop()
        attempt = 0
        while self._core is None and not self._closing:
            await asyncio.sleep(_RESTART_PAUSES_S[min(attempt, len(_RESTART_PAUSES_S) - 1)])
            attempt += 1
            try:
                self._core = await self._fresh()
                self._restarts += 1
                self._detail = ""
            except OperaError as error:
                self._detail = f"restart {attempt} failed: {error.message}"
                log.exception("vLLM did not restart (attempt %d)", attempt)

    async def _fresh(self) -> Core:
        began = time.monotonic()
        core = await _start(self._model, self._settings)
        try:
            if self._source != self._model:
                await _alive(core.load(self._source))
            canary = await _alive(probe.check(core))
            if abs(canary - self._canary) > probe.tolerance(core):
                raise EngineFailed(
                    f"{self._source} no longer gives the numbers of version {self._version!r} "
                    f"(canary {canary:.5f}, was {self._canary:.5f}); load weights again"
                )
        except BaseException:
            await core.stop()
            raise
        self._start_s = time.monotonic() - began
        return core


async def _start(model: str, settings: VllmSettings) -> Core:
    try:
        return await asyncio.to_thread(Core.start, model, settings.engine_args())
    except OperaError:
        raise
    except NotImplementedError as error:
        raise NotSupported(f"vLLM cannot serve {model}: {error}") from error
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        raise EngineFailed(f"vLLM did not start on {model}: {error}") from error


async def _alive(call: Awaitable[T]) -> T:
    try:
        return await call
    except CoreDied as error:
        raise EngineFailed(
            "vLLM's engine process died while this was computed; it restarts, send the request again"
        ) from error
