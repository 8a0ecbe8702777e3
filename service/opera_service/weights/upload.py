"""Where pushed weights lie on disk: streamed in, hashed on the way, kept as long as they serve.

Never holds more than a few MiB in memory. Knows bytes; no model and no HTTP.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from opera_client.errors import BodyTooLarge, DeadlineExceeded, InvalidWeights, Unavailable

_PREFIX = "opera-weights-"
_BLOCK = 4 * 2**20


@dataclass(frozen=True)
class Received:
    """Weights on disk."""

    folder: Path
    """Holds one file, `model.safetensors`."""
    revision: str
    """`sha256:…` of the file."""


class WeightSpool:
    """A folder of this process's own below `parent`; made with the first push, removed by `close`."""

    def __init__(self, parent: Path | None, max_bytes: int, *, idle_s: float = 60.0) -> None:
        """`idle_s` seconds without a byte end a push: a sender that vanished must not keep others out."""
        self._parent = parent or Path(tempfile.gettempdir())
        self._max_bytes, self._idle_s = max_bytes, idle_s
        self._folder: Path | None = None
        self._lock: IO[str] | None = None
        self._kept: Path | None = None

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterable[bytes], *, sha256: str | None = None) -> AsyncIterator[Received]:
        """Write a body to disk; it is removed at the end of the block unless `keep` was called.

        Raises `BodyTooLarge` as soon as it is, `InvalidWeights` when it has not the promised `sha256`,
        `Unavailable` when the disk does not take it, `DeadlineExceeded` when it does not go on.
        """
        folder: Path | None = None
        try:
            try:
                folder = await asyncio.to_thread(self._new_folder)
                digest = await self._write(folder / "model.safetensors", chunks)
            except OSError as error:
                raise Unavailable(f"the spool folder takes no weights: {error.strerror or error}") from error
            if sha256 is not None and sha256.strip().lower() != digest:
                raise InvalidWeights(
                    f"the body's sha256 is {digest}, not the promised one; it changed on the way: push again",
                    field="X-Checksum-Sha256",
                )
            yield Received(folder, f"sha256:{digest}")
        finally:
            if folder is not None and folder != self._kept:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def keep(self, received: Received | None) -> None:
        """These weights serve now, an engine that restarts reads them again; those before are removed."""
        before, self._kept = self._kept, received.folder if received else None
        if before is not None:
            await asyncio.to_thread(shutil.rmtree, before, ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    async def _write(self, path: Path, chunks: AsyncIterable[bytes]) -> str:
        digest, size, waiting = hashlib.sha256(), 0, bytearray()
        with path.open("wb") as file:

            def flush() -> None:
                file.write(waiting)
                digest.update(waiting)
                waiting.clear()

            async for chunk in self._while_alive(chunks):
                size += len(chunk)
                if size > self._max_bytes:
                    raise BodyTooLarge(
                        f"the weights are larger than the limit of {self._max_bytes} bytes; see --max-weights-gb"
                    )
                waiting += chunk
                if len(waiting) >= _BLOCK:
                    await asyncio.to_thread(flush)
            await asyncio.to_thread(flush)
        return digest.hexdigest()

    async def _while_alive(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        source = aiter(chunks)
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    chunk = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlineExceeded(
                    f"no byte of the weights came for {self._idle_s:g} s; push them again"
                ) from None
            yield chunk

    def _new_folder(self) -> Path:
        if self._folder is None:
            self._parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
            self._lock = (self._folder / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return Path(tempfile.mkdtemp(dir=self._folder))

    def _sweep(self) -> None:
        """Remove what killed processes left; a living one holds its lock, on whichever machine."""
        for lock in self._parent.glob(f"{_PREFIX}*/lock"):
            try:
                with lock.open("r") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent, ignore_errors=True)
            except OSError:
                continue
