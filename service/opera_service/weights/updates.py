"""How other weights come to serve: pushed as a body, named on the service's disk, or an adapter taken away again.

One at a time, and whatever is wrong, the old ones serve on. Knows the manager, the spool folder and the allowed
paths; no HTTP and no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from opera_client.errors import OperaError
from opera_client.wire import PolicyLoadResult
from opera_service.engines.adapter import is_adapter
from opera_service.weights.allowed_paths import WeightRoots
from opera_service.weights.manager import WeightManager
from opera_service.weights.upload import WeightSpool


class Loader(Protocol):
    """Brings new weights in: the manager itself, or who asks all replicas."""

    async def load(
        self, source: Path, version: str, *, revision: str | None = None, canary_logprob: float | None = None
    ) -> PolicyLoadResult:
        """Serve the weights at `source` as `version`. Raises why not; then the old ones serve on."""
        ...


class WeightUpdates:
    """Takes other weights in. Used from one event loop.

    Each way raises `PolicyBusy` while another is under way, and what `Loader.load` raises.
    """

    def __init__(
        self,
        manager: WeightManager,
        spool: WeightSpool,
        roots: WeightRoots,
        *,
        count: Callable[[str], None],
        loader: Loader | None = None,
    ) -> None:
        """`count` is told how every attempt ends: `ok` or the error's code. The manager loads by default."""
        self._manager, self._spool, self._roots, self._count = manager, spool, roots, count
        self._loader: Loader = loader or manager

    async def from_upload(
        self,
        chunks: AsyncIterable[bytes],
        version: str,
        *,
        sha256: str | None = None,
        canary_logprob: float | None = None,
    ) -> PolicyLoadResult:
        """Serve the safetensors file that comes in `chunks`; also raises like `WeightSpool.receive`."""
        with self._one_at_a_time():
            async with self._spool.receive(chunks, sha256=sha256) as received:
                result = await self._loader.load(
                    received.folder, version, revision=received.revision, canary_logprob=canary_logprob
                )
                if result.changed:
                    await self._spool.keep(received)
        return result

    async def from_disk(self, path: str, version: str, *, canary_logprob: float | None = None) -> PolicyLoadResult:
        """Serve a safetensors file, a checkpoint or an adapter below the allowed paths; raises their errors, too.

        The file that serves under an adapter stays where it is.
        """
        with self._one_at_a_time():
            source = await asyncio.to_thread(self._roots.find, path)
            result = await self._loader.load(source, version, canary_logprob=canary_logprob)
            if result.changed and not is_adapter(source):
                await self._spool.keep(None)
        return result

    async def drop_adapter(self, version: str) -> PolicyLoadResult:
        """Serve the weights under the adapter `version` again; raises like `WeightManager.unload`."""
        with self._one_at_a_time():
            return await self._manager.unload(version)

    def close(self) -> None:
        """Remove what was pushed."""
        self._spool.close()

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        try:
            with self._manager.turn():
                yield
        except OperaError as error:
            self._count(error.code)
            raise
        self._count("ok")
