"""`opera-reward serve` whose dummy engine obeys a file: raise, hang, run out of memory, return NaN.

For `faults.py`. Everything but the engine is the service as it is.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from opera_client.errors import EngineOutOfMemory
from opera_service.engines import dummy
from opera_service.engines.base import EngineHealth
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.server.command import run

ORDERS = Path(os.environ["FAULTS_ORDERS"])


class FaultyEngine(dummy.DummyEngine):
    """Looks into the file before it scores."""

    _hung_since: float | None = None

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        order = ORDERS.read_text(encoding="utf-8").strip()  # noqa: ASYNC240  a few bytes
        if order == "raise":
            raise RuntimeError("ordered to raise")
        if order == "oom":
            raise EngineOutOfMemory("ordered to run out of memory")
        if order == "hang":
            self._hung_since = time.monotonic()
            await asyncio.Event().wait()
        scores = await super().score(trees)
        if order == "nan":
            for one in scores:
                one.logprobs[:] = np.nan
        return scores

    def health(self) -> EngineHealth:
        since = self._hung_since
        return EngineHealth(ok=True, stalled_s=0.0 if since is None else time.monotonic() - since)


if __name__ == "__main__":
    if "FAULTS_FILE_BYTES" in os.environ:  # a full disk, for this process alone
        limit = int(os.environ["FAULTS_FILE_BYTES"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    dummy.DummyEngine = FaultyEngine  # type: ignore[misc]
    sys.exit(run(sys.argv[1:]))
