"""The vLLM engine: token trees and generation through one in-process vLLM, weights swapped between trees.

Everything that can happen to a running vLLM is handled here: lost rows, new weights, a dead engine process.
Knows no text and no reward; `core` holds the calls into vLLM.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from opera_client.errors import ContextTooLong, EngineFailed, OperaError, RequestError, Unavailable
from opera_service.engines.adapter import adapter_revision, is_adapter, read_adapter
from opera_service.engines.base import EngineHealth, EngineInfo, Generation, GenerationRequest
from opera_service.engines.base import Probe as ScoringProbe
from opera_service.engines.checkpoint import content_hash
from opera_service.engines.restarts import RestartPolicy
from opera_service.engines.vllm import checkpoint, probe, starting
from opera_service.engines.vllm.core import Core, CoreDied
from opera_service.engines.vllm.plan import Plan, Prompt, Rows
from opera_service.engines.vllm.read_write_lock import ReadWriteLock
from opera_service.engines.vllm.served import ServedVllmWeights, Swap
from opera_service.engines.vllm.settings import VllmSettings
from opera_service.engines.vllm.token_budget import TokenBudget
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree

log = logging.getLogger(__name__)
T = TypeVar("T")

_STEPS = 8
"""Steps of vLLM that one `score` call should fill: enough to keep it busy, few enough to stay responsive."""
INFLIGHT_TOKENS = 2_000_000
"""Prompt tokens handed to vLLM at once, unless the settings say otherwise."""
_WATCH_S = 0.5


class VllmEngine:
    """`Engine` over vLLM's AsyncLLM. Make one with `load`; one event loop for its whole life."""

    def __init__(
        self, core: Core, weights: ServedVllmWeights, settings: VllmSettings, shapes: checkpoint.Shapes | None
    ) -> None:
        self._core: Core | None = core
        self._limits = core
        self._model, self._settings, self._shapes = weights.source, settings, shapes
        self._name = Path(self._model).resolve().name if Path(self._model).is_dir() else self._model
        self._weights = self._on_disk = weights
        self._gate, self._budget = ReadWriteLock(), TokenBudget(settings.inflight_tokens or INFLIGHT_TOKENS)
        self._rescored, self._restarts, self._start_s = 0, 0, 30.0
        self._policy = RestartPolicy()
        self._detail, self._closing = "", asyncio.Event()
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
        revision, shapes = await asyncio.to_thread(checkpoint.describe, Path(model))
        core, canary = await starting.start(str(model), settings)
        return cls(core, ServedVllmWeights(str(model), weight_version, revision, canary), settings, shapes)

    @property
    def info(self) -> EngineInfo:
        """The model as of now; one token of vLLM's length is kept for the sample it insists on."""
        limits = self._limits
        return EngineInfo(
            engine="vllm",
            model=self._name,
            revision=self._weights.revision,
            weight_version=self._weights.version,
            dtype=limits.dtype,
            vocab_size=limits.vocab_size,
            max_context=limits.max_model_len - 1,
            max_batch_tokens=_STEPS * limits.batch_tokens,
            route=f"prefix-cache/{limits.runner}",
        )

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree, all on one weight version, each distinct token computed about once.

        Raises EngineFailed (retryable) when the engine process dies meanwhile, Unavailable while it restarts.
        """
        plan = Plan(trees)
        plan.check(vocab_size=self._limits.vocab_size, max_context=self.info.max_context)
        self.running()
        async with self._gate.using():
            core, version = self.running(), self._weights.version
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
        self.running()
        async with self._gate.using():
            core = self.running()
            calls = [self._sample(core, one, number) for one in requests for number in range(one.n)]
            found = iter(await self._answered(calls))
            return [[next(found) for _ in range(request.n)] for request in requests]

    async def load_weights(self, source: Path, version: str, *, probe: ScoringProbe | None = None) -> None:
        """Serve the checkpoint folder `source` as `version`: work in flight ends on the old weights first.

        A failed load leaves the old weights serving. The folder must stay readable while it is served, because a
        restart reads it again. Raises InvalidWeights when they do not fit the model, EngineFailed when the loaded
        model does not score exactly, and what the probe's judge raises.
        """
        if is_adapter(source):
            await self._load_adapter(source, version, probe)
            return
        shapes = await asyncio.to_thread(checkpoint.tensor_shapes, source)
        if self._shapes is not None:
            checkpoint.must_match(shapes, self._shapes)
        revision = await asyncio.to_thread(content_hash, source)
        self.running()
        # A caller that goes away must not leave new weights under the old name.
        await asyncio.shield(
            self._load(ServedVllmWeights(str(source), version, revision, canary=float("nan")), probe)
        )

    async def _load_adapter(self, source: Path, version: str, trial: ScoringProbe | None) -> None:
        adapter = await asyncio.to_thread(read_adapter, source)
        self.running().check_adapter(adapter)
        revision = await asyncio.to_thread(adapter_revision, self._weights.revision, source)
        self.running()
        under = self._whole
        new = replace(under, version=version, revision=revision, adapter=source, under=under)
        await asyncio.shield(self._load(new, trial))

    @property
    def _whole(self) -> ServedVllmWeights:
        """What serves, less an adapter."""
        return self._weights.under or self._weights

    async def drop_adapter(self) -> None:
        """Serve the last whole checkpoint again, under its version."""
        if self._weights.adapter is not None:
            await asyncio.shield(self._load(self._whole, None))

    async def _load(self, weights: ServedVllmWeights, trial: ScoringProbe | None) -> None:
        async with self.replacing() as swap:
            if weights.under is None and weights is not self._whole:
                await swap.core.load(weights.source)
            await swap.core.adapt(weights.adapter)
            if trial is not None:
                plan = Plan([trial.tree])
                rows = [await self._score(swap.core, prompt) for prompt in plan.prompts]
                await asyncio.to_thread(trial.judge, plan.scores(rows, weights.version)[0])
            swap.weights, swap.on_disk = weights, bool(weights.source)

    @asynccontextmanager
    async def replacing(self) -> AsyncIterator[Swap]:
        """Keep everybody out while the block puts other weights into `swap.core`; it says which ones at its end.

        The probe then decides. When it or the block fails, the last weights on disk serve again, and EngineFailed
        is raised, or the block's RequestError.
        """
        async with self._gate.swapping():
            swap = Swap(self.running())
            try:
                await probe.fill(swap.core)
                yield swap
                if swap.weights is None:
                    raise EngineFailed("no weights came")
                canary = await probe.check(swap.core)
            except BaseException as error:  # a caller that goes away leaves half of the weights behind, too
                await self._return_to_disk(swap.core)
                if isinstance(error, RequestError) or not isinstance(error, CoreDied | OperaError):
                    raise
                raise EngineFailed(
                    f"the new weights were not taken, {self._weights.version!r} serves: {error}"
                ) from error
            self._weights = replace(swap.weights, canary=canary)
            if swap.on_disk:
                self._on_disk = self._weights
        log.info("weights %s, canary %.6f", self._weights.version, canary)

    def health(self) -> EngineHealth:
        """Whether scoring works now; counts of what went wrong and was repaired."""
        alive = self._core is not None and not self._core.dead
        return EngineHealth(
            ok=alive,
            detail="" if alive else self._detail or "vLLM's engine process died",
            hopeless=not alive and self._policy.hopeless,
            gauges={
                "vllm_rescored_prompts": float(self._rescored),
                "vllm_restarts": float(self._restarts),
                "vllm_inflight_tokens": float(self._budget.in_flight),
                "vllm_canary_mean_logprob": self._weights.canary,
            },
        )

    async def aclose(self) -> None:
        """Let work in flight finish, then stop vLLM."""
        self._closing.set()
        self._detail = "it is closing"
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
                rows = replace(rows, recomputed=True)
        return rows

    async def _sample(self, core: Core, request: GenerationRequest, number: int) -> Generation:
        async with self._budget.hold(len(request.prompt_ids) + request.max_tokens):
            return replace(await core.sample(request, number), weight_version=self._weights.version)

    async def _answered(self, calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Run calls together, in order of submission; the first failure ends the others and is raised."""
        tasks = [asyncio.create_task(call) for call in calls]
        try:
            return await starting.alive(asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def world_size(self) -> int:
        """Worker processes that hold weights, over all data-parallel copies."""
        return self._limits.world_size

    def running(self) -> Core:
        """Return the live vLLM. Raises Unavailable while there is none."""
        if self._core is None or self._closing.is_set():
            error = Unavailable(f"the vLLM engine is not running: {self._detail}; retry later")
            error.retry_after = self._start_s
            raise error
        return self._core

    async def _return_to_disk(self, core: Core) -> None:
        """Serve the last weights that are on disk; in a new process if this one does not prove to hold them."""
        self._weights = self._on_disk
        try:
            await core.load(self._on_disk.source)
            await core.adapt(self._on_disk.adapter)
            canary = await probe.check(core)
            if abs(canary - self._on_disk.canary) <= probe.tolerance(core.dtype):
                return
        except (CoreDied, OperaError) as error:
            log.warning("the old weights could not be put back in place: %s", error)
        self._core, self._detail = None, "it restarts on the weights it had"
        await core.stop()

    async def _keep_alive(self) -> None:
        """Notice a dead or hung engine process, whether or not somebody is waiting for it, and replace it."""
        while not self._closing.is_set():
            await self._pause(_WATCH_S)
            if self._core is not None and self._core.stalled_s > self._settings.stall_s:
                self._detail = f"it gave nothing for {self._settings.stall_s:g} s and is being restarted"
                log.error("vLLM's engine process hangs; it is killed")
                self._core.kill()
                await self._pause(_WATCH_S)  # until its death is noticed
            if self._core is None or self._core.dead:
                self._detail = self._detail or "its process died and is being restarted"
                async with self._gate.swapping():
                    await self._restart()

    async def _restart(self) -> None:
        """Replace the engine process, on the last weights that are on disk. The caller holds the gate."""
        old, self._core = self._core, None
        if old is not None:
            await old.stop()
        self._policy.reset()
        while self._core is None and not self._closing.is_set():
            await self._pause(self._policy.pause_s)
            self._policy.attempts += 1
            began = time.monotonic()
            try:
                self._core = await starting.start_on(self._model, self._settings, self._on_disk)
            except OperaError as error:
                self._detail = f"restart {self._policy.attempts} failed: {error.message}"
                log.exception("vLLM did not restart (attempt %d)", self._policy.attempts)
            else:
                self._weights, self._detail = self._on_disk, ""
                self._restarts, self._start_s = self._restarts + 1, time.monotonic() - began

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
