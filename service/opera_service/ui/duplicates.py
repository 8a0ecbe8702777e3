"""Pairs of responses that say nearly the same, the nearest first.

MinHash finds candidates, exact Jaccard similarity of word 4-grams decides. Pure but for one query.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from opera_service.ui.queries import Filter, facets_of, rows_of

NEWEST = 2_000
"""Responses that are compared."""
WORDS = 2_000
"""Words of each that are."""
LEAST = 0.5
"""Similarity below which two responses are no duplicates."""
BANDS, ROWS = 16, 3
"""Of the MinHash: pairs at 0.5 are candidates with probability 0.88, at 0.7 with 0.998."""
CROWD = 64
"""Responses in one band that are compared with each other; identical ones of a collapsed policy are many."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")
_PRIME = (1 << 61) - 1
Sketch = NDArray[np.uint64]


def duplicates_page(connection: sqlite3.Connection, asked: Filter, offset: int, limit: int) -> dict[str, Any]:
    """Return a page of trajectories, each with its nearest twin."""
    where, values = asked.trajectories()
    found = connection.execute(
        "SELECT t.group_key, t.position, t.id, g.group_id, t.response FROM trajectories AS t "
        f"JOIN groups AS g ON g.key = t.group_key WHERE {where} AND t.response IS NOT NULL "
        "ORDER BY g.key DESC, t.position LIMIT ?",
        [*values, NEWEST],
    ).fetchall()
    twins = nearest([row["response"] for row in found])
    page = twins[offset : offset + limit]
    rows = rows_of(connection, [(found[one]["group_key"], found[one]["position"]) for one, _, _ in page])
    for row, (_, other, similarity) in zip(rows, page, strict=True):
        twin = found[other]
        row["twin"] = {
            "key": twin["group_key"],
            "position": twin["position"],
            "group_id": twin["group_id"],
            "id": twin["id"],
            "similarity": similarity,
        }
    facets = facets_of(connection, asked) if not offset else {"histogram": None, "flags": {}, "components": []}
    return {"total": len(twins), "rows": rows, **facets}


def nearest(texts: Sequence[str]) -> list[tuple[int, int, float]]:
    """Return (text, its nearest other, similarity) for all that have one, the most similar first."""
    grams = [_grams(text) for text in texts]
    best: dict[int, tuple[int, float]] = {}
    for one, other in _candidates(grams):
        similarity = _similarity(grams[one], grams[other])
        if similarity >= LEAST:
            for mine, its in ((one, other), (other, one)):
                if mine not in best or similarity > best[mine][1]:
                    best[mine] = (its, similarity)
    found = [(mine, its, similarity) for mine, (its, similarity) in best.items()]
    return sorted(found, key=lambda one: (-one[2], one[0]))


def _grams(text: str) -> frozenset[int]:
    """Return the hashes of a text's word 4-grams; of shorter ones, of all their words together."""
    words = _WORD.findall(text.casefold())[:WORDS]
    joined = [" ".join(words[at : at + 4]) for at in range(max(1, len(words) - 3))] if words else []
    return frozenset(crc32(gram.encode()) for gram in joined)


def _candidates(grams: Sequence[frozenset[int]]) -> Iterator[tuple[int, int]]:
    generator = np.random.default_rng(0)
    factors = generator.integers(1, _PRIME, BANDS * ROWS, dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for index, one in enumerate(grams):
        if one:
            sketch = _sketch(one, factors).reshape(BANDS, ROWS)
            for band in range(BANDS):
                buckets[band, sketch[band].tobytes()].append(index)
    seen: set[tuple[int, int]] = set()
    for crowd in buckets.values():
        for pair in combinations(crowd[:CROWD], 2):
            if pair not in seen:
                seen.add(pair)
                yield pair


def _sketch(grams: frozenset[int], factors: Sketch) -> Sketch:
    """Return the least hash under each of many hash functions: multiply, and keep the high bits."""
    values = np.fromiter(grams, dtype=np.uint64, count=len(grams))
    return np.asarray((((values[:, None] + np.uint64(1)) * factors[None, :]) >> np.uint64(16)).min(axis=0))


def _similarity(one: frozenset[int], other: frozenset[int]) -> float:
    return len(one & other) / len(one | other)
