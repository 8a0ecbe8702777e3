"""Keeps all replicas on one set of weights: a Serve deployment of one replica, which scores nothing.

Replicas ask it again and again what to do. What is current is one file, replaced in one step, so that a
coordinator that dies goes on where it was. It knows folders and the ledger; no engine and no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opera_client.errors import OperaError
from opera_service.ray_serve.folders import folder_of, root_of
from opera_service.ray_serve.ledger import Beat, Ledger, Order, Weights

logger = logging.getLogger(__name__)

LEASE_S = 10.0
"""How long a replica may serve after it was heard; how long a push waits for one that fell silent."""
HOLD_S = 2.0
"""How long a replica's question is kept when there is nothing to do."""
STAGE_S = 1800.0
"""How long all replicas may take to read new weights."""
_STATE = "current.json"


class Coordinator:
    """Ledgers by replica set: replicas that were started with the same model and weights form one."""

    def __init__(self, spool_dir: Path | None) -> None:
        """`spool_dir` as in the settings: a folder that every node sees."""
        self._root = root_of(spool_dir)
        self._sets: dict[str, ReplicaSet] = {}

    async def hear(self, replica_set: str, beat: Beat) -> Order:
        """Note what a replica says; answer with what it is to do, at the latest after `HOLD_S`."""
        return await self._set(replica_set).hear(beat)

    async def push(self, replica_set: str, weights: Weights) -> bool | OperaError:
        """Have every replica of a replica set serve these weights; return False when they do already.

        `weights.number` is not looked at. Returns `WeightVersionTaken`, `PolicyBusy`, or why a replica refused
        them; then none serves them.
        """
        try:
            return await self._set(replica_set).push(weights)
        except OperaError as error:  # a value, lest Ray dresses it up as an exception of its own
            return error

    def _set(self, name: str) -> ReplicaSet:
        if name not in self._sets:
            self._sets[name] = ReplicaSet(folder_of(self._root, name))
        return self._sets[name]


class ReplicaSet:
    """The ledger of one replica set and its folder."""

    def __init__(self, folder: Path) -> None:
        """Take up what an earlier coordinator left."""
        self.folder = folder
        self._ledger = Ledger(time.monotonic, LEASE_S, STAGE_S, **read_state(folder / _STATE))
        self._stamp = _stamp(folder / _STATE)
        self._orders_changed = asyncio.Event()
        self._heard = asyncio.Event()

    async def hear(self, beat: Beat) -> Order:
        """Answer at once when there is something to do, else when there is, or after `HOLD_S`."""
        await self._look()
        changed = self._orders_changed
        order = self._ledger.hear(beat)
        self._heard.set()
        if order.kind == "stay":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), HOLD_S)
            order = self._ledger.order(beat.replica)
        return order

    async def push(self, weights: Weights) -> bool:
        """Stage everywhere, then raise the number."""
        ledger, before = self._ledger, self._ledger.current
        if ledger.serves(weights.version, weights.revision):
            return False
        offered = ledger.offer(weights.version, weights.revision, weights.path or "", weights.canary_logprob)
        self._tell()
        try:
            while not (decision := ledger.decided()):
                await self._wait()
            if isinstance(decision, OperaError):
                raise decision
            # The commit: from here on a coordinator that starts anew knows these weights and no others.
            await asyncio.to_thread(write_state, self.folder / _STATE, offered, ledger.revisions)
        except BaseException:  # cancelled, too: replicas must not wait for weights that nobody commits
            ledger.withdraw()
            self._tell()
            raise
        ledger.commit()
        self._tell()
        while not ledger.settled():
            await self._wait()
        if before is not None and before.path is not None and Path(before.path).parent == self.folder:
            await asyncio.to_thread(shutil.rmtree, before.path, ignore_errors=True)
        return True

    async def _look(self) -> None:
        """Take up what another coordinator wrote: while a cluster is replaced by another there are two."""
        stamp = await asyncio.to_thread(_stamp, self.folder / _STATE)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        state = await asyncio.to_thread(read_state, self.folder / _STATE)
        if state and self._ledger.learn(state["current"], state["revisions"]):
            self._tell()

    def _tell(self) -> None:
        """Wake all who wait for something to do."""
        self._orders_changed.set()
        self._orders_changed = asyncio.Event()

    async def _wait(self) -> None:
        """Wait until a replica speaks or time has changed something."""
        self._heard.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), max(0.01, self._ledger.next_event - time.monotonic()))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {"current": Weights(**state["current"]), "revisions": state["revisions"]}


def write_state(path: Path, current: Weights, revisions: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    state = {"current": asdict(current), "revisions": {**revisions, current.version: current.revision}}
    unfinished.write_text(json.dumps(state), encoding="utf-8")
    unfinished.replace(path)
