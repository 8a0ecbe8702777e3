"""Answers to requests that carry an Idempotency-Key: computed once, given to every repeat on the same weights.

A repeat that comes while the first is computed waits for it. Bounded in bytes, and in time. Used from one event
loop; it knows names, fingerprints and bytes, no HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from opera_client.errors import DeadlineExceeded, IdempotencyKeyReused, OperaError

_ENTRY_BYTES = 1024
"""What an entry takes beside its content."""


@dataclass(frozen=True)
class SerializedAnswer:
    """A finished answer."""

    content: bytes
    headers: Mapping[str, str]
    weight_version: str

    @property
    def size(self) -> int:
        """Bytes it takes in memory."""
        return _ENTRY_BYTES + len(self.content)


@dataclass(frozen=True)
class _Kept:
    fingerprint: bytes
    answer: SerializedAnswer


@dataclass(eq=False)
class _Running:
    fingerprint: bytes
    task: asyncio.Task[SerializedAnswer]
    waiting: int = 0


class IdempotencyCache:
    """At most `max_bytes` of answers, each for `keep_s`; with 0 of either, only concurrent repeats are spared."""

    def __init__(
        self,
        max_bytes: int,
        keep_s: float,
        loaded: Callable[[], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`loaded` tells the version of the weights that serve."""
        self._loaded, self._clock = loaded, clock
        self._kept: TTLCache[Hashable, _Kept] = TTLCache(
            max_bytes, keep_s, timer=clock, getsizeof=lambda kept: kept.answer.size
        )
        self._running: dict[Hashable, _Running] = {}
        self._replayed = 0

    async def answer(
        self,
        name: Hashable,
        fingerprint: bytes,
        compute: Callable[[], Coroutine[Any, Any, SerializedAnswer]],
        *,
        deadline: float | None = None,
    ) -> tuple[SerializedAnswer, bool]:
        """Return the answer of `name`, and whether it was there or under way already; else `compute` it.

        Only answers are kept: after an error the next one computes. An answer of other weights than those that
        serve is no answer. When everybody who waited for a computation has been cancelled, so is it. `deadline`,
        a time of the clock, is that of a repeat; `compute` minds its own.

        Raises:
            IdempotencyKeyReused: the name came before with another fingerprint.
            DeadlineExceeded: the first one is still computed at the deadline.
            OperaError: what `compute` raised.
        """
        while True:
            kept = self._find(name)
            if kept is not None:
                _require_same(kept.fingerprint, fingerprint)
                self._replayed += 1
                return kept.answer, True
            serving = self._loaded()
            running = self._running.get(name)
            if running is None:
                return await self._wait(name, self._start(name, fingerprint, compute), None), False
            _require_same(running.fingerprint, fingerprint)
            found = await self._wait(name, running, deadline)
            if found.weight_version in (serving, self._loaded()):
                self._replayed += 1
                return found, True

    def gauges(self) -> dict[str, float]:
        """Return what is held now, for metrics."""
        return {"idempotent_answers_kept": len(self._kept), "idempotent_answer_bytes": self._kept.currsize}

    def counters(self) -> dict[str, float]:
        """Return what has happened so far, for metrics."""
        return {"idempotent_replays": self._replayed}

    def _find(self, name: Hashable) -> _Kept | None:
        """Return what is kept for `name`; forget what is of weights that do not serve any more."""
        kept: _Kept | None = self._kept.get(name)
        if kept is not None and kept.answer.weight_version != self._loaded():
            del self._kept[name]
            return None
        return kept

    def _start(
        self, name: Hashable, fingerprint: bytes, compute: Callable[[], Coroutine[Any, Any, SerializedAnswer]]
    ) -> _Running:
        running = self._running[name] = _Running(fingerprint, asyncio.create_task(compute()))

        def finish(task: asyncio.Task[SerializedAnswer]) -> None:
            if self._running.get(name) is running:
                del self._running[name]
            if not task.cancelled() and task.exception() is None:
                with suppress(ValueError):  # larger than the whole cache
                    self._kept[name] = _Kept(fingerprint, task.result())

        running.task.add_done_callback(finish)
        return running

    async def _wait(self, name: Hashable, running: _Running, deadline: float | None) -> SerializedAnswer:
        running.waiting += 1
        try:
            async with asyncio.timeout(None if deadline is None else deadline - self._clock()):
                await asyncio.wait([running.task])
            return running.task.result()
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed while the first request with this Idempotency-Key was answered; ask again"
            ) from None
        except OperaError as error:
            raise copy(error) from None  # each caller raises its own, with its own traceback
        finally:
            running.waiting -= 1
            if not running.waiting and not running.task.done():
                running.task.cancel()
                self._running.pop(name, None)


def _require_same(known: bytes, fingerprint: bytes) -> None:
    if known != fingerprint:
        raise IdempotencyKeyReused(
            "this Idempotency-Key came before with another request; give every request a key of its own",
            field="Idempotency-Key",
        )
