"""Starting vLLM, and proving that it scores exactly from its cache before anybody is served.

What fails on the way stops the process again: nobody else knows of it yet. Knows cores and weights; no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import vllm

from opera_client.errors import EngineFailed, NotSupported, OperaError
from opera_service.engines.vllm import probe
from opera_service.engines.vllm.core import Core, CoreDied
from opera_service.engines.vllm.served import ServedVllmWeights
from opera_service.engines.vllm.settings import VllmSettings

T = TypeVar("T")

_WRITTEN_FOR = "0.32.0"
"""The vLLM whose internals the scheduler and the worker extension rely on."""


async def start(model: str, settings: VllmSettings) -> tuple[Core, float]:
    """Start vLLM on `model`, a folder or hub id; return it with its canary.

    Raises NotSupported or InvalidRequest for what vLLM does not serve or know, EngineFailed when it does not start
    or the probe finds wrong numbers.
    """
    core = await _begun(model, settings)
    try:
        await alive(core.read_rows())
        return core, await alive(probe.check(core))
    except BaseException:  # also when the caller goes away: its process would outlive us
        await core.stop()
        raise


async def start_on(model: str, settings: VllmSettings, weights: ServedVllmWeights) -> Core:
    """Start vLLM on `model` with `weights` that served before; raises when they do not score as they did, too."""
    core = await _begun(model, settings)
    try:
        await alive(core.read_rows())
        if weights.source != model:
            await alive(core.load(weights.source))
        await alive(core.adapt(weights.adapter))
        canary = await alive(probe.check(core))
        if abs(canary - weights.canary) > probe.tolerance(core.dtype):
            raise EngineFailed(
                f"{weights.source} no longer gives the numbers of version {weights.version!r} "
                f"(canary {canary:.5f}, was {weights.canary:.5f}); load weights again"
            )
    except BaseException:  # as above
        await core.stop()
        raise
    return core


async def _begun(model: str, settings: VllmSettings) -> Core:
    try:
        return await asyncio.to_thread(Core.start, model, settings.engine_args())
    except OperaError:
        raise
    except NotImplementedError as error:
        raise NotSupported(f"vLLM cannot serve {model}: {error}") from error
    except (OSError, RuntimeError, ValueError, ImportError, AttributeError, TypeError) as error:
        here = vllm.__version__
        other = "" if here.startswith(_WRITTEN_FOR) else f"; it is {here}, and this engine is for {_WRITTEN_FOR}"
        raise EngineFailed(f"vLLM did not start on {model}: {error}{other}") from error


async def alive(call: Awaitable[T]) -> T:
    """Return what `call` does; EngineFailed, which is retryable, when the engine process dies meanwhile."""
    try:
        return await call
    except CoreDied as error:
        raise EngineFailed(
            "vLLM's engine process died while this was computed; it restarts, send the request again"
        ) from error
