"""Scores that were computed before: bounded in bytes, the least recently used leave first.

A key is what serves (engine, model, revision, weight version, dtype, route) and the tree's own content, so that no
number crosses weights or engines. It knows trees and bytes; no engine, no request.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from opera_service.scoring.scores import TreeScores

_ENTRY_BYTES = 1024
"""What an entry takes beside its numbers."""


class CacheKey(NamedTuple):
    """Equal keys have equal numbers."""

    served: tuple[str, ...]
    """The engine and its weights."""
    digest: bytes
    """`TokenTree.digest`."""


@dataclass
class _Counts:
    cache_hits: int = 0
    cache_misses: int = 0
    cache_evictions: int = 0


class ScoreCache:
    """At most `max_bytes` of scores; 0 keeps nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[CacheKey, TreeScores] = OrderedDict()
        self._counts = _Counts()

    @property
    def enabled(self) -> bool:
        """Whether anything can be kept."""
        return self._max_bytes > 0

    def get(self, key: CacheKey) -> TreeScores | None:
        """Return the scores kept for `key`; whoever gets them must not change them (the arrays are read-only)."""
        scores = self._entries.get(key)
        if scores is None:
            self._counts.cache_misses += 1
        else:
            self._counts.cache_hits += 1
            self._entries.move_to_end(key)
        return scores

    def put(self, key: CacheKey, scores: TreeScores) -> None:
        """Keep a copy of `scores`, unless they alone are over the bound, or not all of them are numbers."""
        size = _size(scores)
        if size > self._max_bytes or not scores.finite:
            return
        if known := self._entries.pop(key, None):
            self._bytes -= _size(known)
        self._entries[key] = _own(scores)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _size(oldest)
            self._counts.cache_evictions += 1

    def gauges(self) -> dict[str, float]:
        """Return what is held now, for metrics."""
        return {"cache_entries": len(self._entries), "cache_bytes": self._bytes}

    def counters(self) -> dict[str, float]:
        """Return what has happened so far, for metrics."""
        return asdict(self._counts)


def _arrays(scores: TreeScores) -> dict[str, NDArray[np.generic]]:
    names = ("logprobs", "query_start", "entropies", "top_ids", "top_logprobs")
    return {name: value for name in names if (value := getattr(scores, name)) is not None}


def _size(scores: TreeScores) -> int:
    return _ENTRY_BYTES + sum(array.nbytes for array in _arrays(scores).values())


def _own(scores: TreeScores) -> TreeScores:
    """Return a copy that holds no larger buffer alive, and that nobody can write to."""
    copies = {name: array.copy() for name, array in _arrays(scores).items()}
    for copy in copies.values():
        copy.setflags(write=False)
    return replace(scores, **copies)  # type: ignore[arg-type]
