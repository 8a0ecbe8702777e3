"""One replica among the others: beats to the coordinator, takes up weights as it says, serves while it may.

The second phase of a switch hangs on the engine's own probe: new weights that passed it wait there, nothing being
scored, until all replicas have come as far. It knows the weights' manager and the ledger's words; no Ray, no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path

from opera_client.errors import EngineFailed, InvalidWeights, OperaError, Unavailable
from opera_service.engines.base import Engine
from opera_service.ray_serve.ledger import Beat, Clock, Order, Weights
from opera_service.ray_serve.replica_state import ReplicaState
from opera_service.weights.manager import WeightManager

logger = logging.getLogger(__name__)

Hear = Callable[[Beat], Awaitable[Order]]
"""How the coordinator is told, and what it answers."""
CALL_S = 5.0
"""A coordinator that has not answered by then is asked again; it answers well within half of it."""
AGAIN_S = 1.0


class Participant:
    """Used from one event loop."""

    def __init__(
        self, name: str, engine: Engine, manager: WeightManager, hear: Hear, clock: Clock = time.monotonic
    ) -> None:
        info = engine.info
        self.state = ReplicaState(name, Weights(0, info.weight_version, info.revision), clock)
        self.failure: OperaError | None = None
        """Why this replica cannot take up the current weights."""
        self._manager, self._hear, self._clock = manager, hear, clock
        self._ballot: Future[bool] = Future()
        self._news = asyncio.Event()
        self._joined = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def may_serve(self) -> bool:
        """See `ReplicaState.may_serve`."""
        return self.state.may_serve

    async def settled(self) -> None:
        """Wait while staged weights wait for the others: not even a number known before may go out then."""
        await self._settled.wait()

    async def join(self) -> None:
        """Begin to beat; return when the current weights are loaded and may be served. Raises why they cannot."""
        self._start(self._beat_on())
        await self._joined.wait()
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        """Stop serving; staged weights are dropped."""
        self.state.end_lease()
        self._vote(False)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat_on(self) -> None:
        while True:
            self._news.clear()
            asked = self._clock()
            answer, news = (
                asyncio.ensure_future(self._hear(self.state.beat())),
                asyncio.create_task(self._news.wait()),
            )
            try:
                await asyncio.wait({answer, news}, timeout=CALL_S, return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    self._obey(answer.result(), asked)
            except Exception as error:  # noqa: BLE001  whatever Ray raises while the coordinator is away
                logger.warning("the coordinator does not answer: %s: %s", type(error).__name__, error)
                await asyncio.sleep(AGAIN_S)
            finally:
                answer.cancel()
                news.cancel()

    def _obey(self, order: Order, asked: float) -> None:
        step = self.state.obey(order, asked)
        if order.lease_s:
            self._joined.set()
        if step in ("switch", "drop"):
            self._vote(step == "switch")
        elif self.state.reading is not None and step is not None:
            self._ballot = Future()
            self._start(self._take(self.state.reading, alone=step == "load"))

    def _vote(self, switch: bool) -> None:
        if not self._ballot.done():
            self._ballot.set_result(switch)

    async def _take(self, weights: Weights, *, alone: bool) -> None:
        """Load weights; unless `alone`, let them wait for the others before they serve."""
        loop, ballot = asyncio.get_running_loop(), self._ballot

        def agree() -> None:
            if alone:
                return
            loop.call_soon_threadsafe(self._has_staged)
            if not ballot.result():
                raise Unavailable("another replica could not load these weights; the old ones serve on")

        error: OperaError | None = None
        try:
            source = Path(weights.path or "")
            if not await asyncio.to_thread(source.exists):
                raise InvalidWeights(
                    f"replica {self.state.name} does not see {source}; give --spool-dir (and what /policy/load "
                    "reads) a disk that all nodes share"
                )
            await self._manager.load(
                source,
                weights.version,
                revision=weights.revision,
                canary_logprob=weights.canary_logprob,
                agree=agree,
            )
        except OperaError as raised:
            error = raised
        except Exception as raised:
            logger.exception("weights %r could not be loaded", weights.version)
            error = EngineFailed(f"the weights could not be loaded: {type(raised).__name__}: {raised}")
        if alone:
            self.failure = error
            if error is not None:
                self._joined.set()
                await asyncio.sleep(AGAIN_S)  # before it counts as read: until then it is not tried again
        if error is None:
            self.state.serve()
        else:
            self.state.refuse(error)
        self._settled.set()
        self._news.set()

    def _has_staged(self) -> None:
        self.state.stage()
        self._settled.clear()
        self._news.set()

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
