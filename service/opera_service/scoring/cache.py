"""Scores that were computed before: bounded in bytes, the least recently used leave first.

A key is what serves (engine, model, revision, weight version, dtype, route) and the tree's own content, so that no
number crosses weights or engines. It knows trees and bytes; no engine, no request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from cachetools import LRUCache
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


class _Entries(LRUCache[CacheKey, TreeScores]):
    """Counts what leaves to make room."""

    evictions = 0

    def popitem(self) -> tuple[CacheKey, TreeScores]:
        self.evictions += 1
        return super().popitem()


class ScoreCache:
    """At most `max_bytes` of scores; 0 keeps nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._entries = _Entries(max_bytes, getsizeof=_size)
        self._hits = self._misses = 0

    @property
    def enabled(self) -> bool:
        """Whether anything can be kept."""
        return self._entries.maxsize > 0

    def get(self, key: CacheKey) -> TreeScores | None:
        """Return the scores kept for `key`; whoever gets them must not change them (the arrays are read-only)."""
        scores: TreeScores | None = self._entries.get(key)
        if scores is None:
            self._misses += 1
        else:
            self._hits += 1
        return scores

    def put(self, key: CacheKey, scores: TreeScores) -> None:
        """Keep a copy of `scores`, unless they alone are over the bound, or not all of them are numbers."""
        if _size(scores) <= self._entries.maxsize and scores.finite:
            self._entries[key] = _own(scores)

    def gauges(self) -> dict[str, float]:
        """Return what is held now, for metrics."""
        return {"cache_entries": len(self._entries), "cache_bytes": self._entries.currsize}

    def counters(self) -> dict[str, float]:
        """Return what has happened so far, for metrics."""
        return {
            "cache_hits": self._hits, "cache_misses": self._misses, "cache_evictions": self._entries.evictions,
        }  # fmt: skip


def _arrays(scores: TreeScores) -> dict[str, NDArray[np.generic]]:
    names = ("logprobs", "query_start", "entropies", "top_ids", "top_logprobs")
    return {name: value for name in names if (value := getattr(scores, name)) is not None}


def _size(scores: TreeScores) -> int:
    second = 0 if scores.second is None else _size(scores.second)
    return _ENTRY_BYTES + second + sum(array.nbytes for array in _arrays(scores).values())


def _own(scores: TreeScores) -> TreeScores:
    """Return a copy that holds no larger buffer alive, and that nobody can write to."""
    copies = {name: array.copy() for name, array in _arrays(scores).items()}
    for copy in copies.values():
        copy.setflags(write=False)
    second = None if scores.second is None else _own(scores.second)
    return replace(scores, **copies, second=second)  # type: ignore[arg-type]
