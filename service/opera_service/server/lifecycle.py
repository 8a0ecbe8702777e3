"""Where a service stands: loading, ready, failed, draining, gone.

It knows what is opened with a service and closed after it; no HTTP, no engine by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from pathlib import Path
from typing import Protocol

from opera_client.errors import EngineFailed, OperaError, Unavailable
from opera_client.wire import Health, PolicyLoadResult
from opera_service.api.idempotency import IdempotencyCache
from opera_service.audit.store import NotAnAuditLog
from opera_service.audit.writer import AuditLog
from opera_service.engines.supervisor import Supervisor
from opera_service.groups.limits import GroupLimits
from opera_service.observability.metrics import Metrics
from opera_service.observability.tracing import open_tracing
from opera_service.pipelines.member import Members
from opera_service.pipelines.service import Service
from opera_service.server.build import build_service
from opera_service.server.settings import Settings, SettingsError
from opera_service.weights.allowed_paths import WeightRoots
from opera_service.weights.upload import WeightSpool
from opera_vllm.asking import RolloutVllm

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5.0
"""What callers are asked to wait while the model loads; how long that takes is not known."""


def _audit_log(settings: Settings) -> AuditLog | None:
    """Open the audit log. Raises `SettingsError` when there can be none at the path."""
    if settings.audit is None:
        return None
    try:
        return AuditLog(
            settings.audit, keep_sent=settings.audit_texts, max_bytes=int(settings.audit_queue_mb * 2**20)
        )
    except (NotAnAuditLog, sqlite3.Error) as error:
        raise SettingsError(f"audit: {settings.audit} cannot be the audit log: {error}") from None


class Loader(Protocol):
    """Brings new weights in, as `WeightManager.load` does."""

    async def load(
        self, source: Path, version: str, *, revision: str | None = None, canary_logprob: float | None = None
    ) -> PolicyLoadResult:
        """Serve the weights at `source` as `version`. Raises why not; then the old ones serve on."""
        ...


class Lifecycle:
    """Where the service stands: starting, ok, failed or draining. Used from one event loop."""

    def __init__(
        self, settings: Settings, service: Service | None = None, rollout: RolloutVllm | None = None
    ) -> None:
        self.settings = settings
        self._rollout = rollout
        self.metrics = service.metrics if service else Metrics()
        self._service: Service | None = None
        self._members: Members | None = None
        self._replays: IdempotencyCache | None = None
        self.spool = WeightSpool(settings.spool_dir, settings.max_weights_bytes)
        self.roots = WeightRoots(settings.policy_root)
        self.fleet: Loader | None = None
        """Who brings new weights to all replicas, where this process is one of several."""
        self._draining = self._stuck = False
        self._failure: OperaError | None = None
        self._loaded = asyncio.Event()
        self.tracing = open_tracing(settings.otlp_endpoint)
        self._audit = _audit_log(settings)
        if service is not None:
            self._open(service)

    def start(self) -> None:
        """Begin to load in a thread, unless a service was given."""
        if self._service is not None:
            self._loaded.set()
            return
        loop = asyncio.get_running_loop()
        # A daemon: whoever interrupts a long load wants to leave now.
        threading.Thread(target=self._load, args=(loop,), name="opera-load", daemon=True).start()

    async def ready(self) -> Service:
        """Wait until the service can score. Raises what loading raised."""
        await self._loaded.wait()
        return self.service

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            service: Service | OperaError = build_service(self.settings, self.metrics, loop, rollout=self._rollout)
        except OperaError as error:
            service = error
        except Exception as error:
            logger.exception("the service could not be started")
            service = EngineFailed(f"the service could not be started: {type(error).__name__}: {error}")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._finish, service)

    def _finish(self, service: Service | OperaError) -> None:
        if isinstance(service, OperaError):
            self._failure = service
        else:
            self._open(service)
        self._loaded.set()

    def _open(self, service: Service) -> None:
        settings = self.settings
        limits = GroupLimits(
            max_groups=settings.max_waiting_groups,
            max_members=settings.max_waiting_members,
            max_tokens=settings.max_waiting_tokens,
            max_answers=settings.max_kept_answers,
            keep_s=settings.keep_answers_s,
            idle_s=settings.keep_members_s,
        )
        self._service, self._members = service, Members(service, limits)
        self._replays = IdempotencyCache(
            int(settings.replay_mb * 2**20), settings.keep_replays_s, lambda: service.engine.info.weight_version
        )
        self.metrics.watch_counted(self._replays.gauges, self._replays.counters)
        service.tracing = self.tracing
        if self._audit is not None:
            service.audit_to(self._audit)
        self.metrics.watch_counted(self._members.gauges, self._members.counters)

    @property
    def service(self) -> Service:
        """The service. Raises `Unavailable` while it is loading, or what made loading fail."""
        if self._service is None:
            raise self._absence()
        return self._service

    @property
    def members(self) -> Members:
        """Where groups gather member by member. Raises like `service`."""
        if self._members is None:
            raise self._absence()
        return self._members

    @property
    def loader(self) -> Loader:
        """Who brings new weights in: the fleet, or this service's own policy. Raises like `service`."""
        return self.fleet or self.service.weights

    @property
    def idempotency(self) -> IdempotencyCache:
        """Answers to requests with an Idempotency-Key. Raises like `service`."""
        if self._replays is None:
            raise self._absence()
        return self._replays

    def _absence(self) -> OperaError:
        if self._failure is not None:
            return self._failure
        error = Unavailable("the model is still loading; retry in a few seconds")
        error.retry_after = RETRY_AFTER_S
        return error

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._service is not None

    @property
    def draining(self) -> bool:
        """Whether no new work is wanted."""
        return self._draining

    def health(self) -> Health:
        """Say whether requests can be served now."""
        if self._failure is not None:
            return Health(status="failed", detail=self._failure.message)
        if self._service is None:
            return Health(status="starting", detail="the model is loading")
        trees, branches, engine = (
            self._service.tree_dispatcher,
            self._service.sampling_dispatcher,
            self._service.engine.health(),
        )
        queue = {"queued_trees": trees.queued_items, "queued_tokens": trees.queued_tokens + branches.queued_tokens}
        if self._draining:
            return Health(status="draining", detail="finishing the requests in flight", **queue)
        return Health(status="ok" if engine.ok else "failed", detail=engine.detail, **queue)

    @property
    def alive(self) -> bool:
        """Whether this process may yet serve; otherwise only a new one can."""
        return self._service is None or not self._service.engine.health().hopeless

    @property
    def stuck(self) -> bool:
        """Whether an engine's thread would keep the process from ending by itself."""
        engine = self._service.engine if self._service else None
        return self._stuck or (isinstance(engine, Supervisor) and engine.left_behind > 0)

    def drain(self) -> None:
        """Tell probes that no new work is wanted; requests in flight go on, members of unfinished groups end."""
        self._draining = True
        if self._members is not None:
            self._members.drain()

    async def stop(self) -> None:
        """Finish queued work and free the engine; a load that is under way is left behind."""
        self.drain()
        if self._members is not None:
            await self._members.aclose()
        if self._service is not None:
            try:
                async with asyncio.timeout(max(1.0, self.settings.drain_timeout)):
                    await self._service.aclose()
            except TimeoutError:
                self._stuck = True
                logger.error("the engine still works on something; the process ends without it")
        if self._audit is not None:
            await asyncio.to_thread(self._audit.close)
        await asyncio.to_thread(self.tracing.close)
        self.spool.close()
