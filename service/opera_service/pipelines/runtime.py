"""What all requests share: one engine, one tokenizer, the queues before them, and who looks on.

Built once a process by `server.build`; nothing is added to it or exchanged afterwards. Used from one event loop.
It knows no HTTP and no single kind of request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from opera_client.errors import NotSupported, OperaError, WeightVersionMismatch
from opera_client.wire import ModelInfo, ServedModel, Trajectory
from opera_service.engines.base import Engine, Generation, GenerationRequest, WeightReceiver
from opera_service.groups.gatherer import GroupGatherer
from opera_service.observability.metrics import Metrics
from opera_service.observability.rewarded import RefusedSubscriber, Subscriber
from opera_service.observability.run_health import RunHealth
from opera_service.observability.tracing import Tracing
from opera_service.pipelines.baselines import Baselines
from opera_service.pipelines.hints import Hints
from opera_service.pipelines.limits import RequestLimits
from opera_service.pipelines.member_reward import MemberReward
from opera_service.pipelines.shared_threads import SharedThreads
from opera_service.rewards.registry import AnyReward
from opera_service.rewards.verifier_pool import VerifierPool
from opera_service.scoring.cache import CacheKey, ScoreCache
from opera_service.scoring.dispatcher import Dispatcher
from opera_service.scoring.noise import EngineNoise
from opera_service.scoring.tree import TokenTree
from opera_service.scoring.tree_dispatcher import Scored, TreeDispatcher
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.tokenizer import Tokenizer
from opera_service.weights.manager import WeightManager
from opera_service.weights.updates import WeightUpdates

P = ParamSpec("P")
T = TypeVar("T")

Sampling = Sequence[GenerationRequest]
"""What one item of /expand wants sampled."""
Sampled = list[list[Generation]]
"""The continuations of each of its requests."""

_HASHED_AT_ONCE = 100_000
"""Tokens that are hashed on the event loop: well below a millisecond."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Runtime:
    """One engine with everything around it that is not HTTP."""

    engine: Engine
    tokenizer: Tokenizer
    field_tokenizer: FieldTokenizer
    max_batch_tokens: int
    """Distinct tree tokens of one engine call."""
    limits: RequestLimits
    clock: Callable[[], float]
    """Seconds on a monotonic scale."""
    threads: SharedThreads
    """Where requests are tokenised and scores read."""
    tree_dispatcher: TreeDispatcher
    sampling_dispatcher: Dispatcher[Sampling, Sampled]
    cache: ScoreCache
    noise: EngineNoise
    gatherer: GroupGatherer[Trajectory, MemberReward]
    """Groups whose members come one by one."""
    hints: Hints
    """Trajectories that are still being written."""
    verifiers: VerifierPool
    """Where answers to mathematical tasks are verified."""
    weights: WeightManager
    updates: WeightUpdates
    transfer: WeightReceiver | None
    """Receives weights over a trainer's process group; None on engines that cannot."""
    metrics: Metrics
    tracing: Tracing
    run_health: RunHealth
    baselines: Baselines
    subscribers: Sequence[Subscriber]
    """Told of every rewarded request."""
    refused: Sequence[RefusedSubscriber] = ()
    """Told of every request for rewards that was answered with an error as a whole."""

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

    def second_model(self) -> ModelInfo | None:
        """Describe the second model, if there is one."""
        info = self.engine.info.second
        if info is None:
            return None
        return ModelInfo(
            name=info.model,
            revision=info.revision,
            weight_version=info.weight_version,
            dtype=info.dtype,
            engine=info.engine,
        )

    def second_for(self, reward: AnyReward) -> ModelInfo | None:
        """Describe the second model where the reward reads it. Raises `NotSupported` when there is none."""
        needing = [part.name for part in reward.parts if "second_model" in part.needs]
        second = self.second_model() if needing else None
        if needing and second is None:
            raise NotSupported(
                f"{needing[0]} compares with a second model; start the service with --second-model, it has none"
            )
        return second

    def served_model(self) -> ServedModel:
        """Describe the model and its limits."""
        info, end = self.engine.info, self.tokenizer.turn_end_id
        return ServedModel(
            **self.model().model_dump(),
            route=info.route,
            route_reason=info.route_reason,
            vocab_size=info.vocab_size,
            max_context=info.max_context,
            max_batch_tokens=self.max_batch_tokens,
            think_open=self.tokenizer.tags.open,
            think_close=self.tokenizer.tags.close,
            think_source=self.tokenizer.tags.source,
            turn_end=None if end is None else self.tokenizer.decode([end]),
            memory_bytes=self.engine.health().gauges.get("memory_bytes"),
            second_model=self.second_model(),
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
        """Run `function`, which is no run's work, in a worker thread: the event loop stays free."""
        return await self.threads.run(None, function, *args, **kwargs)

    def deadline(self, timeout_s: float | None, unix: float | None = None) -> float | None:
        """Turn a timeout in seconds and an absolute unix time, whichever is earlier, into a clock time."""
        ends = [math.inf if timeout_s is None else timeout_s, math.inf if unix is None else unix - time.time()]
        return None if min(ends) == math.inf else self.clock() + min(ends)

    async def known_scores(self, trees: Sequence[TokenTree]) -> tuple[list[Scored | None], list[CacheKey | None]]:
        """Return, per tree, its scores where the loaded weights have computed them before, and its cache key."""
        if not self.cache.enabled:
            return [None] * len(trees), [None] * len(trees)
        if sum(tree.fed_tokens for tree in trees) > _HASHED_AT_ONCE:
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
        own = info.engine, info.model, info.revision, info.weight_version, info.dtype, info.route
        other = info.second
        return own if other is None else (*own, other.model, other.revision, other.dtype, other.route)

    def gauges(self) -> Mapping[str, float]:
        """Return what waits and runs now, for metrics."""
        trees, branches, health = self.tree_dispatcher, self.sampling_dispatcher, self.engine.health()
        return {
            "queue_requests": trees.queued_requests + branches.queued_requests,
            "queue_trees": trees.queued_items,
            "queue_samplings": branches.queued_items,
            "queue_tokens": trees.queued_tokens + branches.queued_tokens,
            "drain_tokens_per_second": trees.drain_rate or 0.0,
            "sampling_tokens_per_second": branches.drain_rate or 0.0,
            "running_trees": trees.running_items,
            "running_samplings": branches.running_items,
            "running_tokens": trees.running_tokens + branches.running_tokens,
            "engine_ok": float(health.ok),
            **{f"engine_{name}": value for name, value in health.gauges.items()},
        }

    async def aclose(self) -> None:
        """Finish the groups and the queued work that are there, then free engine and threads."""
        await self.hints.aclose()
        await self.gatherer.aclose()
        await self.sampling_dispatcher.aclose()
        await self.tree_dispatcher.aclose()
        await self.verifiers.aclose()
        await self.engine.aclose()
        self.threads.close()
