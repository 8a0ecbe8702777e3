"""One replica: the HTTP app around an engine of its own, ready when it serves what the others serve.

Everything between the two rooms that Serve has to be told or asked; the app and the engine are those of
`opera-reward serve`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from opera_client.errors import EngineFailed, OperaError
from opera_service.engines.base import Engine
from opera_service.ray_serve.args import settings_of
from opera_service.ray_serve.fence import Fence
from opera_service.ray_serve.fleet import Fleet
from opera_service.ray_serve.folders import folder_of, root_of
from opera_service.ray_serve.ledger import Beat, Order, Weights
from opera_service.ray_serve.participant import Participant
from opera_service.server.app import create_app
from opera_service.server.backends import Backend, load_backend
from opera_service.server.build import manager_of
from opera_service.server.command import SWITCH_INTERVAL_S
from opera_service.server.lifecycle import Lifecycle

LOOK_S = 0.5
"""How often a replica looks whether Serve wants it to go."""


@serve.ingress()
class Scorer:
    """What Serve makes as many of as there is work for."""

    # Serve awaits it.
    async def __init__(self, args: dict[str, Any], coordinator: DeploymentHandle) -> None:  # type: ignore[misc]
        """Load the engine, then the weights that the other replicas serve. Raises why that cannot be."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        settings = settings_of(args)
        root = root_of(settings.spool_dir)
        name = serve.get_replica_context().replica_tag
        own: dict[str, Any] = {"spool_dir": root / "spool"}
        if settings.audit is not None:
            own["audit"] = settings.audit.with_stem(f"{settings.audit.stem}-{name}")
        settings = settings.model_copy(update=own)
        loaded = await asyncio.to_thread(load_backend, settings, asyncio.get_running_loop())
        # Without its transfer: a trainer's process group would reach this replica only.
        backend = Backend(loaded.engine, loaded.tokenizer)
        replica_set, weights = replica_set_of(backend.engine), manager_of(settings, backend)

        async def hear(beat: Beat) -> Order:
            return await coordinator.hear.remote(replica_set, beat)  # type: ignore[no-any-return]

        async def push(pushed: Weights) -> bool | OperaError:
            return await coordinator.push.remote(replica_set, pushed)  # type: ignore[no-any-return]

        self._engine = backend.engine
        self._participant = Participant(name, backend.engine, weights, hear)
        await self._participant.join()
        fleet = Fleet(weights, push, folder_of(root, replica_set), root / "spool")
        app = create_app(settings, backend=backend, weights=weights, loader=fleet)
        self._lifecycle: Lifecycle = app.state.lifecycle
        self._app = Fence(app, name, self._participant.settled, lambda: self._participant.may_serve)
        self._watch = asyncio.create_task(self._leave_in_time())

    def __serve_build_asgi_app__(self) -> Fence:
        """Return what answers HTTP here."""
        return self._app

    def check_health(self) -> None:
        """Raise when Serve had better put another replica in this one's place."""
        health = self._engine.health()
        if not health.ok:
            raise EngineFailed(health.detail)
        if self._participant.failure is not None:
            raise self._participant.failure

    async def __del__(self) -> None:
        """Stop for good; the app has been closed by now."""
        if hasattr(self, "_participant"):
            await self._participant.aclose()

    async def _leave_in_time(self) -> None:
        """Send members of unfinished groups elsewhere as soon as Serve routes nobody here any more."""
        while not is_stopping():  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(LOOK_S)
        self._lifecycle.drain()


def is_stopping() -> bool:
    """Whether Serve waits for this replica's requests to end.

    Serve tells the code it runs only when they have, which members that wait for others would not do in time; the
    one that knows is Serve's own object in this process.
    """
    actors = ray._private.worker.global_worker.actors
    return any(actor._replica_impl._shutting_down for actor in actors.values())


def replica_set_of(engine: Engine) -> str:
    """Return what replicas have in common that may serve the same weights: the model they were started with."""
    info = engine.info
    own = (info.engine, info.model, info.revision, info.weight_version, info.dtype)
    return "|".join(own if info.second is None else (*own, info.second.model, info.second.revision))
