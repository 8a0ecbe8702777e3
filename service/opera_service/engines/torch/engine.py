"""The torch engine: a transformers model behind the `Engine` protocol, with one thread that owns the device.

`score` and `generate` queue for that thread and never block the event loop. Knows no text, no reward, no HTTP.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch

from opera_client.errors import (
    EngineFailed,
    EngineOutOfMemory,
    InvalidWeights,
    NotSupported,
    OperaError,
    Unavailable,
)
from opera_service.engines.adapter import adapter_revision, is_adapter
from opera_service.engines.base import EngineHealth, EngineInfo, Generation, GenerationRequest, Probe
from opera_service.engines.torch.loading import load_model
from opera_service.engines.torch.memory import out_of_memory
from opera_service.engines.torch.route_by_size import MEASURE_S, RouteBySize
from opera_service.engines.torch.sampler import Sampler
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.engines.torch.weights import Base, ServedWeights, Undo
from opera_service.failures import reason_of
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree

T = TypeVar("T")
_THREAD = "opera-device"
WeightsMode = Literal["shadow", "in_place"]
"""`shadow`: new weights are read beside the served ones, then take their place between two batches.
`in_place`: they are written over the served ones while nothing is scored; the old ones wait in host memory."""


class TorchEngine:
    """One model on one device."""

    def __init__(self, scorer: TreeScorer, *, weights_mode: WeightsMode = "shadow") -> None:
        """Wrap a scorer; `TorchEngine.load` makes one from a model's name."""
        if weights_mode not in get_args(WeightsMode):
            raise NotSupported(f"weights mode {weights_mode!r} is unknown; use shadow or in_place")
        self.scorer = scorer
        self.weights, self._mode = ServedWeights(scorer.loaded.model), weights_mode
        self._loading = asyncio.Lock()
        self._info = _describe(scorer)
        self._full = (self._info.revision, self._info.weight_version)
        self._sampler = Sampler(scorer.loaded, scorer.max_batch_tokens)
        self._device_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=_THREAD)
        self._closed = False
        self._sign_of_life: float | None = None
        scorer.loaded.model.register_forward_pre_hook(self._live)
        self._failure = ""

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        route: str = "auto",
        dtype: str = "auto",
        device: str = "auto",
        max_batch_tokens: int | None = None,
        name: str | None = None,
        weight_version: str = "0",
        weights_mode: WeightsMode = "shadow",
        trust_remote_code: bool = False,
        measure_s: float | None = None,
    ) -> TorchEngine:
        """Load a folder or hub id and choose a route; blocks until the model can score.

        `max_batch_tokens` bounds the tokens of one forward; by default 2048 on a CPU and 65536 on a GPU. The route
        `auto` spends `measure_s` seconds on measuring, by default `MEASURE_S` of the device.
        Raises `NotSupported` or `EngineFailed`, as `load_model` and `choose_route` say.
        """
        loaded = load_model(model, dtype=dtype, device=device, name=name, trust_remote_code=trust_remote_code)
        scorer = TreeScorer(
            loaded,
            route=route,
            max_batch_tokens=max_batch_tokens,
            weight_version=weight_version,
            measure_s=MEASURE_S.get(loaded.device.type, 0.0) if measure_s is None else measure_s,
        )
        return cls(scorer, weights_mode=weights_mode)

    @property
    def info(self) -> EngineInfo:
        """The model, its weights and limits."""
        return self._info

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree; see `TreeScorer.score` for its errors."""
        return await self._on_device(lambda: self.scorer.score(trees))

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample continuations, one list per request; see `Sampler.generate` for its errors."""
        return await self._on_device(lambda: self._generate(requests))

    async def load_weights(self, source: Path, version: str, *, probe: Probe | None = None) -> None:
        """Serve the weights of a safetensors file or folder, named as in the model's `state_dict()`.

        Or of a LoRA adapter's folder, merged into the last such weights: its layers then take twice their memory.

        Everything is read and checked before the device thread hears of it. Raises `InvalidWeights` naming the
        tensor, `EngineOutOfMemory` when a shadow does not fit, and what the probe's judge raises.
        """
        async with self._loading:
            if is_adapter(source):
                staged = await asyncio.to_thread(self._guarded, lambda: self.weights.stage_adapter(source))
                revision = await asyncio.to_thread(adapter_revision, self._full[0], source)
                await self._on_device(
                    lambda: self._install(staged.swap, revision, version, probe, base=staged.base)
                )
                return
            if self._mode == "shadow":
                staged = await asyncio.to_thread(self._guarded, lambda: self.weights.stage(source))
                revision, put = staged.revision, staged.swap
            else:
                revision = await asyncio.to_thread(self._guarded, lambda: self.weights.check(source))
                put = partial(self.weights.overwrite, source, revision)
            await self._on_device(lambda: self._install(put, revision, version, probe))

    async def drop_adapter(self) -> None:
        """Serve the full weights without the adapter on top, under their own version."""
        async with self._loading:
            staged = self.weights.without_adapter()
            await self._on_device(lambda: self._install(staged.swap, *self._full, None))

    def health(self) -> EngineHealth:
        """Whether the last device work went through; never waits for the device."""
        if self._closed:
            return EngineHealth(ok=False, detail="the engine is closed")
        sign = self._sign_of_life
        return EngineHealth(
            ok=not self._failure,
            detail=self._failure,
            gauges={"memory_bytes": self._memory()},
            stalled_s=0.0 if sign is None else time.monotonic() - sign,
        )

    async def aclose(self) -> None:
        """Finish the work in flight, refuse more, end the device thread."""
        self._closed = True
        await asyncio.to_thread(self._device_thread.shutdown, wait=True)

    def _generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        version = self.scorer.weight_version
        answers = self._sampler.generate(requests)
        return [[replace(one, weight_version=version) for one in answer] for answer in answers]

    def _install(
        self,
        put: Callable[[], Undo],
        revision: str,
        version: str,
        probe: Probe | None,
        *,
        base: Base | None = None,
    ) -> None:
        """On the device thread: put the new weights in, try them, name them; or put the old ones back."""
        undo = put()
        self.scorer.forget()
        try:
            if probe is not None:
                probe.judge(self._tried(probe.tree))
        except BaseException:  # a judge may raise anything; the old weights must serve on
            undo()
            self.scorer.forget()
            raise
        self.scorer.loaded = replace(self.scorer.loaded, revision=revision)
        self.scorer.weight_version = version
        self._info = _describe(self.scorer)
        self.weights.base = dict(base or {})
        if not base:
            self._full = (revision, version)

    def _tried(self, tree: TokenTree) -> TreeScores:
        try:
            (scores,) = self.scorer.score([tree])
        except EngineFailed as error:
            raise InvalidWeights(f"on these weights a forward fails: {error.message}") from error
        if not scores.finite:
            raise InvalidWeights("on these weights a forward gives numbers that are not finite")
        return scores

    async def _on_device(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("the engine is closed; start a new one")
        return await asyncio.get_running_loop().run_in_executor(self._device_thread, self._alone, work)

    def _alone(self, work: Callable[[], T]) -> T:
        """Run on the device thread, and be seen to: a device that hangs stays at its last forward."""
        self._live()
        try:
            return self._guarded(work)
        finally:
            self._sign_of_life = None

    def _live(self, *_: object) -> None:
        if threading.current_thread().name.startswith(_THREAD):
            self._sign_of_life = time.monotonic()

    def _guarded(self, work: Callable[[], T]) -> T:
        """Turn everything unexpected into a typed error."""
        try:
            answer = work()
        except OperaError:
            raise
        except Exception as error:
            first = reason_of(error)
            if out_of_memory(error):
                raise EngineOutOfMemory(f"memory ran out ({first}); ask for less at a time") from error
            self._failure = f"{type(error).__name__}: {first}"
            raise EngineFailed(f"the device work failed ({self._failure}); see the server's log") from error
        self._failure = ""
        return answer

    def _memory(self) -> float:
        """Bytes allocated on the GPU, or the process's peak on a CPU."""
        if self.scorer.loaded.device.type == "cuda":
            return float(torch.cuda.memory_allocated(self.scorer.loaded.device))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak if sys.platform == "darwin" else peak * 1024)


def _describe(scorer: TreeScorer) -> EngineInfo:
    loaded = scorer.loaded
    return EngineInfo(
        engine="torch",
        model=loaded.name,
        revision=loaded.revision,
        weight_version=scorer.weight_version,
        dtype=loaded.dtype,
        vocab_size=loaded.vocab_size,
        max_context=loaded.max_context,
        max_batch_tokens=scorer.max_batch_tokens,
        route=scorer.route.name,
        route_reason=scorer.route.reason if isinstance(scorer.route, RouteBySize) else "",
    )
