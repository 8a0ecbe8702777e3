"""Brings new weights to all replicas: a file that reached one of them becomes everybody's, or nobody's.

Stands where a single process has its policy. It knows folders and the coordinator; no HTTP.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from opera_client.errors import NotSupported, OperaError
from opera_client.wire import PolicyLoadResult
from opera_service.engines.adapter import is_adapter
from opera_service.engines.checkpoint import content_hash
from opera_service.ray_serve.ledger import Weights
from opera_service.weights.manager import WeightManager

Push = Callable[[Weights], Awaitable[bool | OperaError]]
"""How the coordinator is asked to have all replicas serve weights; its answer, or why they do not."""


class Fleet:
    """All replicas, as seen from one of them."""

    def __init__(self, policy: WeightManager, push: Push, folder: Path, spool: Path) -> None:
        """Weights that arrived below `spool` are moved to `folder`; every replica must see it."""
        self._policy, self._push, self._folder, self._spool = policy, push, folder, spool

    async def load(
        self, source: Path, version: str, *, revision: str | None = None, canary_logprob: float | None = None
    ) -> PolicyLoadResult:
        """Return when every replica that answers requests serves the weights at `source`, and only those.

        Raises `PolicyBusy`, `WeightVersionTaken`, and why a replica refused them: then all serve the old ones.
        """
        started = time.monotonic()
        if is_adapter(source):
            # A replica that starts later would need the weights below it, too, and nobody keeps those.
            raise NotSupported(
                "replicas take whole weights: merge the adapter (merge_and_unload) and push the result"
            )
        before = await self._policy.info()
        if revision is None:
            revision = await asyncio.to_thread(content_hash, source)
        path = await asyncio.to_thread(self._keep, source)
        # Should this be interrupted the file stays: it may serve by now.
        changed = await self._push(Weights(0, version, revision, str(path), canary_logprob))
        if changed is not True and path != source:
            await asyncio.to_thread(path.rename, source)
        if isinstance(changed, OperaError):
            raise changed
        if not changed:
            return await self._policy.load(source, version, revision=revision, canary_logprob=canary_logprob)
        now = await self._policy.info()
        return PolicyLoadResult(
            **now.model_dump(),
            previous_version=before.weight_version,
            canary_before=before.canary.mean_logprob,
            changed=True,
            load_s=time.monotonic() - started,
        )

    def _keep(self, source: Path) -> Path:
        """Take a pushed folder out of the spool, which is emptied when its process ends."""
        if not source.is_relative_to(self._spool):
            return source
        self._folder.mkdir(parents=True, exist_ok=True)
        return source.rename(self._folder / uuid.uuid4().hex)
