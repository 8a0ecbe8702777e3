"""From settings and a backend to the one runtime that all requests share. What belongs together is joined here.

It knows every room below; no route and no engine by name.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from opera_client.wire import RewardRequest, Trajectory
from opera_service.audit.metrics import AuditMetrics
from opera_service.audit.store import NotAnAuditLog
from opera_service.audit.target import Target
from opera_service.audit.writer import AuditLog
from opera_service.engines.base import Engine
from opera_service.groups.gatherer import GroupGatherer
from opera_service.groups.limits import GroupLimits
from opera_service.observability.metrics import Metrics
from opera_service.observability.observers import Observers
from opera_service.observability.run_health import RunHealth
from opera_service.observability.run_metrics import RunMetrics
from opera_service.observability.tracing import NoTracing, Tracing
from opera_service.pipelines.baselines import Baselines
from opera_service.pipelines.group_batch import Gathered, score_batch
from opera_service.pipelines.hints import Hints
from opera_service.pipelines.limits import RequestLimits
from opera_service.pipelines.member_reward import MemberReward, weight
from opera_service.pipelines.prefill import prefill
from opera_service.pipelines.reward_audit import recorder
from opera_service.pipelines.runtime import Runtime, Sampled, Sampling
from opera_service.pipelines.shared_threads import SharedThreads
from opera_service.rewards.registry import rewards
from opera_service.rewards.verifier_pool import VerifierPool
from opera_service.scoring.admission import QueueLimits
from opera_service.scoring.cache import ScoreCache
from opera_service.scoring.dispatcher import Dispatcher
from opera_service.scoring.noise import EngineNoise
from opera_service.scoring.tree_dispatcher import TreeDispatcher
from opera_service.server.backends import Backend
from opera_service.server.settings import Settings, SettingsError
from opera_service.server.zero_series import show_zeros
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.ui.live_page import LivePage
from opera_service.ui.source import LogSource, Memory
from opera_service.weights.allowed_paths import WeightRoots
from opera_service.weights.manager import WeightManager
from opera_service.weights.updates import Loader, WeightUpdates
from opera_service.weights.upload import WeightSpool

GATHER_S = 0.2
"""How long groups wait for others on their way into the live page's memory; the audit log is written at once."""


def build_runtime(
    settings: Settings,
    backend: Backend,
    observers: Observers,
    *,
    weights: WeightManager | None = None,
    loader: Loader | None = None,
) -> Runtime:
    """Join everything.

    Args:
        settings: what the operator said.
        backend: the engine and its tokenizer; the runtime closes the engine.
        observers: who looks on; closing them is their owner's business.
        weights: who manages the engine's weights, where there is somebody already.
        loader: who brings new weights in, where it is not `weights` alone.
    """
    rewards()  # find and import them now, not on the event loop during the first request
    engine, tokenizer, metrics, clock = backend.engine, backend.tokenizer, observers.metrics, time.monotonic
    manager = weights or manager_of(settings, backend)
    max_batch_tokens = settings.max_batch_tokens or engine.info.max_batch_tokens
    queue_limits = QueueLimits(settings.max_queue_requests, settings.max_queue_tokens)
    trees = TreeDispatcher(
        engine.score,
        max_batch_tokens,
        limits=queue_limits,
        clock=clock,
        on_batch=metrics.batch,
        on_drop=metrics.dropped,
    )
    # A queue of its own: a batch of branches takes long, and vLLM scores others' trees meanwhile.
    sampling: Dispatcher[Sampling, Sampled] = Dispatcher(
        partial(_sample, engine),
        max_batch_tokens,
        tokens=_most_tokens,
        breaks_off=True,
        limits=queue_limits,
        beside=trees,
        clock=clock,
        on_drop=metrics.dropped_sampling,
    )

    async def score(batch: Gathered) -> Mapping[str, MemberReward]:
        return await score_batch(runtime, batch)

    gatherer: GroupGatherer[Trajectory, MemberReward] = GroupGatherer(
        score, _group_limits(settings), clock=clock, weigh=weight
    )

    async def work_ahead(request: RewardRequest) -> None:
        await prefill(runtime, request)

    baselines, run_health = Baselines(), RunHealth(clock)
    spool = WeightSpool(settings.spool_dir, settings.max_weights_bytes)
    runtime = Runtime(
        engine=engine,
        tokenizer=tokenizer,
        field_tokenizer=FieldTokenizer(tokenizer, engine.info.vocab_size, engine.info.max_context),
        max_batch_tokens=max_batch_tokens,
        limits=_request_limits(settings),
        clock=clock,
        threads=SharedThreads(settings.encode_threads),
        tree_dispatcher=trees,
        sampling_dispatcher=sampling,
        # Scores are found by the weights' version, which is known only afterwards where they are another's.
        cache=ScoreCache(0 if engine.info.borrowed else int(settings.cache_mb * 2**20)),
        noise=EngineNoise(
            engine.score,
            engine.info.dtype,
            vocab_size=engine.info.vocab_size,
            max_context=engine.info.max_context,
        ),
        gatherer=gatherer,
        hints=Hints(work_ahead, of_use=partial(_keeps, engine), max_context=engine.info.max_context),
        verifiers=VerifierPool(),
        weights=manager,
        updates=WeightUpdates(
            manager, spool, WeightRoots(settings.policy_root), count=metrics.policy_load, loader=loader
        ),
        transfer=backend.transfer,
        metrics=metrics,
        tracing=observers.tracing,
        run_health=run_health,
        baselines=baselines,
        subscribers=(metrics.rewarded, run_health.rewarded, baselines.rewarded, *observers.subscribers),
        refused=tuple(observers.refused),
    )
    _show(runtime)
    return runtime


def manager_of(settings: Settings, backend: Backend) -> WeightManager:
    """Return a manager of the backend's weights; there must be one alone."""
    return WeightManager(backend.engine, backend.tokenizer, tolerance=settings.canary_tolerance)


def open_live_page(settings: Settings) -> LivePage | None:
    """Open the live page over the audit log, or over memory where there is none; None where it is not wanted."""
    if not settings.ui:
        return None
    source = Memory(settings.ui_memory_bytes) if settings.audit is None else LogSource(settings.audit)
    return LivePage(source, texts_kept=settings.audit_texts)


def open_observers(settings: Settings, page: LivePage | None = None) -> Observers:
    """Open what the settings name. Raises `SettingsError` when it cannot be.

    What the audit log writes, `page` hears of; without an audit log, all is written to the page's memory.
    """
    metrics, tracing = Metrics(), _open_tracing(settings.otlp_endpoint)
    show_zeros(metrics)
    target: Path | Target | None = settings.audit or (page.memory if page else None)
    if target is None:
        return Observers(metrics, tracing)
    try:
        log = AuditLog(
            target,
            keep_sent=settings.audit_texts,
            max_bytes=int(settings.audit_queue_mb * 2**20),
            on_written=None if page is None else page.written,
            gather_s=0.0 if settings.audit is not None else GATHER_S,
        )
    except (NotAnAuditLog, sqlite3.Error) as error:
        raise SettingsError(f"audit: {settings.audit} cannot be the audit log: {error}") from None
    if settings.audit is not None:
        metrics.registry.register(AuditMetrics(log))
    if page is None:
        return Observers(metrics, tracing, subscribers=(recorder(log),), closers=(log.close,))
    page.lost = log.lost.total
    return Observers(
        metrics,
        tracing,
        subscribers=(recorder(log),),
        refused=(page.refused,),
        closers=(log.close, page.close),
    )


def _open_tracing(endpoint: str | None) -> Tracing:
    """Return tracing to a collector's OTLP/HTTP address; without one, none."""
    if endpoint is None:
        return NoTracing()
    try:
        from opera_service.observability.otel import OtelTracing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise SettingsError("otlp_endpoint: traces need OpenTelemetry: pip install 'opera-reward[otel]'") from None
    return OtelTracing.to(endpoint)


def _show(runtime: Runtime) -> None:
    """Let metrics read what others count."""
    metrics = runtime.metrics
    metrics.registry.register(RunMetrics(runtime.run_health.snapshot))
    metrics.watch_counted(runtime.cache.gauges, runtime.cache.counters)
    metrics.watch_counted(runtime.gatherer.gauges, runtime.gatherer.counters)
    metrics.watch_counted(runtime.hints.gauges, runtime.hints.counters)
    metrics.watch(runtime.gauges, lambda: runtime.model().model_dump(mode="json"))


def _request_limits(settings: Settings) -> RequestLimits:
    return RequestLimits(
        max_groups=settings.max_groups,
        max_trajectories=settings.max_trajectories,
        max_items=settings.max_items,
        max_branches=settings.max_branches,
        max_request_tokens=settings.max_request_tokens,
    )


def _group_limits(settings: Settings) -> GroupLimits:
    return GroupLimits(
        max_groups=settings.max_waiting_groups,
        max_members=settings.max_waiting_members,
        max_tokens=settings.max_waiting_tokens,
        max_answers=settings.max_kept_answers,
        keep_s=settings.keep_answers_s,
        idle_s=settings.keep_members_s,
    )


def _keeps(engine: Engine) -> bool:
    """Whether the engine keeps of a context what the next call can use."""
    return engine.info.route == "kept_trunks" or engine.info.engine.startswith("vllm")


async def _sample(engine: Engine, items: Sequence[Sampling]) -> list[Sampled]:
    found = iter(await engine.generate([request for item in items for request in item]))
    return [[next(found) for _ in item] for item in items]


def _most_tokens(item: Sampling) -> int:
    """Return what an item of /expand takes at most; how soon its branches end, nobody knows."""
    return sum(len(request.prompt_ids) + request.n * request.max_tokens for request in item)
