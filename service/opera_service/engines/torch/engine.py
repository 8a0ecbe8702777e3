"""The torch engine: a transformers model behind the `Engine` protocol, with one thread that owns the device.

`score` and `generate` queue for that thread and never block the event loop. Knows no text, no reward, no HTTP.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from opera_client.errors import EngineFailed, EngineOutOfMemory, OperaError, Unavailable
from opera_service.engines.base import EngineHealth, EngineInfo, Generation, GenerationRequest
from opera_service.engines.torch.loading import load_model
from opera_service.engines.torch.sampler import Sampler
from opera_service.engines.torch.scorer import TreeScorer, out_of_memory
from opera_service.scoring.tree import TokenTree, TreeScores

T = TypeVar("T")


class TorchEngine:
    """One model on one device."""

    def __init__(self, scorer: TreeScorer) -> None:
        """Wrap a scorer; `TorchEngine.load` makes one from a model's name."""
        self._scorer = scorer
        self._sampler = Sampler(scorer.loaded, scorer.max_batch_tokens)
        self._device_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="opera-device")
        self._closed = False
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
    ) -> TorchEngine:
        """Load a folder or hub id and choose a route; blocks until the model can score.

        `max_batch_tokens` bounds the tokens of one forward; by default 4096 on a CPU and 65536 on a GPU.
        Raises `NotSupported` or `EngineFailed`, as `load_model` and `choose_route` say.
        """
        loaded = load_model(model, dtype=dtype, device=device, name=name)
        scorer = TreeScorer(loaded, route=route, max_batch_tokens=max_batch_tokens, weight_version=weight_version)
        return cls(scorer)

    @property
    def info(self) -> EngineInfo:
        """The model, its weights and limits."""
        loaded = self._scorer.loaded
        return EngineInfo(
            engine="torch",
            model=loaded.name,
            revision=loaded.revision,
            weight_version=self._scorer.weight_version,
            dtype=loaded.dtype,
            vocab_size=loaded.vocab_size,
            max_context=loaded.max_context,
            max_batch_tokens=self._scorer.max_batch_tokens,
            route=self._scorer.route.name,
        )

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        """Fill every tree; see `TreeScorer.score` for its errors."""
        return await self._on_device(lambda: self._scorer.score(trees))

    async def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Sample continuations, one list per request; see `Sampler.generate` for its errors."""
        return await self._on_device(lambda: self._sampler.generate(requests))

    def health(self) -> EngineHealth:
        """Whether the last device work went through; never waits for the device."""
        if self._closed:
            return EngineHealth(ok=False, detail="the engine is closed")
        return EngineHealth(ok=not self._failure, detail=self._failure, gauges={"memory_bytes": self._memory()})

    async def aclose(self) -> None:
        """Finish the work in hand, refuse more, end the device thread."""
        self._closed = True
        await asyncio.to_thread(self._device_thread.shutdown, wait=True)

    async def _on_device(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("the engine is closed; start a new one")
        return await asyncio.get_running_loop().run_in_executor(self._device_thread, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        """Run on the device thread and turn everything unexpected into a typed error."""
        try:
            answer = work()
        except OperaError:
            raise
        except Exception as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            if out_of_memory(error):
                raise EngineOutOfMemory(f"memory ran out ({first}); ask for less at a time") from error
            self._failure = f"{type(error).__name__}: {first}"
            raise EngineFailed(f"the device work failed ({self._failure}); see the server's log") from error
        self._failure = ""
        return answer

    def _memory(self) -> float:
        """Bytes allocated on the GPU, or the process's peak on a CPU."""
        if self._scorer.loaded.device.type == "cuda":
            return float(torch.cuda.memory_allocated(self._scorer.loaded.device))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(peak if sys.platform == "darwin" else peak * 1024)
