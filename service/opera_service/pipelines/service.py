"""What all requests share: the engine, the tokenizer, the scheduler, worker threads and the metrics.

Made once a process; used from one event loop. It knows no HTTP and no single kind of request.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, TypeVar

from opera_client.errors import OperaError, WeightVersionMismatch
from opera_client.wire import ModelInfo, ServedModel
from opera_service.audit.metrics import AuditMetrics
from opera_service.audit.writer import AuditLog
from opera_service.engines.base import Engine, Generation, GenerationRequest, WeightReceiver
from opera_service.observability.metrics import Metrics
from opera_service.observability.rewarded import Subscriber
from opera_service.observability.run_health import RunHealth
from opera_service.observability.run_metrics import RunMetrics
from opera_service.observability.tracing import NoTracing, Tracing
from opera_service.pipelines.baselines import Baselines
from opera_service.pipelines.limits import RequestLimits
from opera_service.pipelines.reward_audit import recorder
from opera_service.scoring.admission import QueueLimits
from opera_service.scoring.cache import CacheKey, ScoreCache
from opera_service.scoring.dispatcher import Dispatcher
from opera_service.scoring.tree import TokenTree
from opera_service.scoring.tree_dispatcher import Scored, TreeDispatcher
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.tokenizer import Tokenizer
from opera_service.weights.manager import WeightManager

P = ParamSpec("P")
T = TypeVar("T")


Sampling = Sequence[GenerationRequest]
"""What one item of /expand wants sampled."""
Sampled = list[list[Generation]]
"""The continuations of each of its requests."""

_HASHED_AT_ONCE = 100_000
"""Tokens that are hashed on the event loop: well below a millisecond."""


class Service:
    """One engine with everything around it that is not HTTP."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        metrics: Metrics | None = None,
        max_batch_tokens: int | None = None,
        encode_threads: int = 2,
        canary_tolerance: float = 0.05,
        transfer: WeightReceiver | None = None,
        limits: RequestLimits | None = None,
        queue_limits: QueueLimits | None = None,
        cache_bytes: int = 2**28,
        subscribers: Sequence[Subscriber] = (),
    ) -> None:
        """`subscribers` hear of rewarded requests after the service's own."""
        self.engine = engine
        # Scores are found by the weights' version, which is known only afterwards where they are another's.
        self.cache = ScoreCache(0 if engine.info.borrowed else cache_bytes)
        self.limits = limits or RequestLimits()
        self.transfer = transfer
        self.tokenizer = tokenizer
        self.field_tokenizer = FieldTokenizer(tokenizer, engine.info.vocab_size, engine.info.max_context)
        self.metrics = metrics or Metrics()
        self.clock = time.monotonic
        self.baselines = Baselines()
        self.run_health = RunHealth(self.clock)
        own = (self.metrics.rewarded, self.run_health.rewarded, self.baselines.rewarded)
        self.subscribers: tuple[Subscriber, ...] = (*own, *subscribers)
        self.tracing: Tracing = NoTracing()
        self.weights = WeightManager(engine, tokenizer, tolerance=canary_tolerance)
        self.max_batch_tokens = max_batch_tokens or engine.info.max_batch_tokens
        self.tree_dispatcher = TreeDispatcher(
            engine.score,
            self.max_batch_tokens,
            limits=queue_limits,
            clock=self.clock,
            on_batch=self.metrics.batch,
            on_drop=self.metrics.dropped,
        )
        # A line of its own: a batch of branches takes long, and vLLM scores others' trees meanwhile.
        self.sampling_dispatcher: Dispatcher[Sampling, Sampled] = Dispatcher(
            self._sample,
            self.max_batch_tokens,
            tokens=_most_tokens,
            breaks_off=True,
            limits=queue_limits,
            beside=self.tree_dispatcher,
            clock=self.clock,
            on_drop=self.metrics.dropped_sampling,
        )
        self._threads = ThreadPoolExecutor(encode_threads, thread_name_prefix="opera-encode")
        self.metrics.registry.register(RunMetrics(self.run_health.snapshot))
        self.metrics.watch_counted(self.cache.gauges, self.cache.counters)
        self.metrics.watch(self._gauges, lambda: self.model().model_dump(mode="json"))

    def audit_to(self, log: AuditLog) -> None:
        """Record all rewards in `log` from now on; closing it is its owner's business."""
        self.subscribers += (recorder(log),)
        self.metrics.registry.register(AuditMetrics(log))

    def model(self, weight_version: str | None = None) -> ModelInfo:
        """Describe the model; `weight_version` names the weights of given numbers, if not the loaded ones."""
        info = self.engine.info
        version = weight_version or info.weight_version
        return ModelInfo(
            name=info.model,
            revision=self.weights.revision_of(version) or "unknown",
            weight_version=version,
            dtype=info.dtype,
            engine=info.engine,
        )

    def served_model(self) -> ServedModel:
        """Describe the model and its limits."""
        info = self.engine.info
        return ServedModel(
            **self.model().model_dump(),
            route=info.route,
            route_reason=info.route_reason,
            vocab_size=info.vocab_size,
            max_context=info.max_context,
            max_batch_tokens=self.max_batch_tokens,
        )

    def require_weights(self, wanted: str | None, *, scored: str | None = None) -> None:
        """Raise `WeightVersionMismatch` unless the loaded (or the scoring) weights are the wanted ones.

        Weights of another's are known once they have scored, not before.
        """
        if scored is None and self.engine.info.borrowed:
            return
        loaded = scored or self.engine.info.weight_version
        if wanted is not None and wanted != loaded:
            raise WeightVersionMismatch(
                f"the request asks for weight version {wanted!r} but {loaded!r} is loaded; "
                "load the wanted weights or leave weight_version out",
                field="weight_version",
            )

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a worker thread, so that the event loop stays free."""
        loop, context = asyncio.get_running_loop(), copy_context()
        return await loop.run_in_executor(self._threads, lambda: context.run(function, *args, **kwargs))

    def deadline(self, timeout_s: float | None, unix: float | None = None) -> float | None:
        """Turn a timeout in seconds and an absolute unix time, whichever is earlier, into a clock time."""
        ends = [math.inf if timeout_s is None else timeout_s, math.inf if unix is None else unix - time.time()]
        return None if min(ends) == math.inf else self.clock() + min(ends)

    async def known_scores(self, trees: Sequence[TokenTree]) -> tuple[list[Scored | None], list[CacheKey | None]]:
        """Return, per tree, its scores where the loaded weights have computed them before, and its cache key."""
        if not self.cache.enabled:
            return [None] * len(trees), [None] * len(trees)
        if sum(tree.num_tokens for tree in trees) > _HASHED_AT_ONCE:
            digests = await self.in_thread(lambda: [tree.digest() for tree in trees])
        else:
            digests = [tree.digest() for tree in trees]
        served, now = self._served, self.clock()
        keys = [CacheKey(served, digest) for digest in digests]
        found = [self.cache.get(key) for key in keys]
        hits = [None if one is None else Scored(one, 0.0, now, now, cached=True) for one in found]
        return hits, [*keys]

    def keep_scores(self, keys: Sequence[CacheKey | None], outcomes: Sequence[Scored | OperaError]) -> None:
        """Remember what was computed, if the weights that computed it still serve: only then are they known."""
        served = self._served
        for key, outcome in zip(keys, outcomes, strict=True):
            if key is None or isinstance(outcome, OperaError) or outcome.cached:
                continue
            if outcome.answer.weight_version == self.engine.info.weight_version:
                self.cache.put(CacheKey(served, key.digest), outcome.answer)

    @property
    def _served(self) -> tuple[str, ...]:
        """Everything that numbers depend on beside their tree."""
        info = self.engine.info
        return info.engine, info.model, info.revision, info.weight_version, info.dtype, info.route

    async def aclose(self) -> None:
        """Finish queued work, then free engine and threads."""
        await self.sampling_dispatcher.aclose()
        await self.tree_dispatcher.aclose()
        await self.engine.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _sample(self, items: Sequence[Sampling]) -> list[Sampled]:
        found = iter(await self.engine.generate([request for item in items for request in item]))
        return [[next(found) for _ in item] for item in items]

    def _gauges(self) -> dict[str, float]:
        trees, branches = self.tree_dispatcher, self.sampling_dispatcher
        queue = {
            "queue_requests": trees.queued_requests + branches.queued_requests,
            "queue_trees": trees.queued_items,
            "queue_samplings": branches.queued_items,
            "queue_tokens": trees.queued_tokens + branches.queued_tokens,
            "drain_tokens_per_second": trees.drain_rate or 0.0,
            "sampling_tokens_per_second": branches.drain_rate or 0.0,
            "running_trees": trees.running_items,
            "running_samplings": branches.running_items,
            "running_tokens": trees.running_tokens + branches.running_tokens,
        }
        health = self.engine.health()
        return {**queue, "engine_ok": float(health.ok), **{f"engine_{k}": v for k, v in health.gauges.items()}}


def _most_tokens(item: Sampling) -> int:
    """Return what an item of /expand takes at most; how soon its branches end, nobody knows."""
    return sum(len(request.prompt_ids) + request.n * request.max_tokens for request in item)
