"""The cache of scores: what is equal, what is kept, what leaves."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.scoring.cache import CacheKey, ScoreCache
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

SERVED = ("dummy", "m", "r", "0", "float64", "table")


def scores(count: int = 4, value: float = -1.0) -> TreeScores:
    return TreeScores(
        logprobs=np.full(count, value, dtype=np.float64),
        query_start=np.array([0, count], dtype=np.int32),
        weight_version="0",
        tokens_computed=count,
    )


def key(name: str, served: tuple[str, ...] = SERVED) -> CacheKey:
    return CacheKey(served, name.encode())


def tree(*paths: tuple[list[int], list[int]], **wants) -> TokenTree:
    builder = TreeBuilder()
    for context, target in paths:
        builder.score(builder.extend(ROOT, context), target)
    return builder.build(**wants)


def test_what_was_put_comes_back_bit_by_bit():
    cache = ScoreCache(10_000)
    entropies = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)
    full = dataclasses.replace(
        scores(), entropies=entropies, top_ids=np.ones((4, 2), np.int32), top_logprobs=np.zeros((4, 2))
    )
    cache.put(key("a"), full)
    found = cache.get(key("a"))
    for name in ("logprobs", "query_start", "entropies", "top_ids", "top_logprobs"):
        kept, given_ = getattr(found, name), getattr(full, name)
        assert kept.dtype == given_.dtype
        assert (kept == given_).all()
    assert (found.weight_version, found.tokens_computed) == ("0", 4)
    assert cache.counters() == {"cache_hits": 1, "cache_misses": 0, "cache_evictions": 0}


def test_what_is_kept_belongs_to_nobody_else():
    cache = ScoreCache(10_000)
    large = np.zeros(10**6)
    view = dataclasses.replace(scores(), logprobs=large[:4])
    cache.put(key("a"), view)
    view.logprobs[0] = 7.0
    found = cache.get(key("a"))
    assert found.logprobs[0] == 0.0
    assert found.logprobs.base is None, "the large buffer is free"
    with pytest.raises(ValueError, match="read-only"):
        found.logprobs[0] = 1.0


@pytest.mark.parametrize("position", range(len(SERVED)))
def test_nothing_crosses_engines_weights_or_dtypes(position: int):
    cache = ScoreCache(10_000)
    cache.put(key("a"), scores())
    other = (*SERVED[:position], "other", *SERVED[position + 1 :])
    assert cache.get(key("a", other)) is None
    assert cache.counters()["cache_misses"] == 1


def test_a_second_models_scores_are_kept_counted_and_nobody_elses():
    both = dataclasses.replace(scores(), second=scores(100, -2.0))
    cache = ScoreCache(10_000)
    cache.put(key("a"), both)
    assert cache.gauges()["cache_bytes"] > 100 * 8 + 4 * 8
    assert both.second is not None
    both.second.logprobs[0] = 7.0
    found = cache.get(key("a"))
    assert (found.second.logprobs == -2.0).all()
    with pytest.raises(ValueError, match="read-only"):
        found.second.logprobs[0] = 7.0
    small = ScoreCache(800)
    small.put(key("a"), both)
    assert small.get(key("a")) is None


def test_the_least_recently_used_leave_first():
    cache = ScoreCache(3 * 1100)
    for name in "abc":
        cache.put(key(name), scores())
    cache.get(key("a"))
    cache.put(key("d"), scores())
    assert [name for name in "abcd" if cache.get(key(name))] == ["a", "c", "d"]
    assert cache.counters()["cache_evictions"] == 1


def test_an_entry_exactly_as_large_as_the_cache_and_one_byte_larger():
    cache = ScoreCache(1024 + 32 + 8)
    cache.put(key("a"), scores())
    assert cache.gauges() == {"cache_entries": 1, "cache_bytes": 1064}
    small = ScoreCache(1024 + 32 + 7)
    small.put(key("a"), scores())
    assert small.gauges() == {"cache_entries": 0, "cache_bytes": 0}
    assert small.counters()["cache_evictions"] == 0, "nobody else had to leave for it"


@pytest.mark.parametrize("size", [0, 1])
def test_a_cache_without_room_keeps_nothing(size: int):
    cache = ScoreCache(size)
    assert cache.enabled == bool(size)
    cache.put(key("a"), scores())
    assert cache.get(key("a")) is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 200)), max_size=60), st.integers(0, 6000))
def test_the_bound_holds_and_the_last_value_counts(puts: list[tuple[str, int]], limit: int):
    cache = ScoreCache(limit)
    latest: dict[str, int] = {}
    for name, count in puts:
        cache.put(key(name), scores(count, value=-count - 1.0))
        if 1024 + 8 * count + 8 <= limit:
            latest[name] = count
        gauges = cache.gauges()
        assert gauges["cache_bytes"] <= limit
    held = {name: found for name in "abcdef" if (found := cache.get(key(name)))}
    assert len(held) == gauges["cache_entries"] if puts else True
    for name, found in held.items():
        assert len(found.logprobs) == latest[name]
    assert sum(1024 + one.logprobs.nbytes + 8 for one in held.values()) == cache.gauges()["cache_bytes"]


BASE = ([1, 2, 3], [4, 5])


def test_equal_trees_have_equal_digests_however_they_were_built():
    one = tree(([1, 2], [3]), ([1, 2, 9], [4]))
    again = TreeBuilder()
    start = again.extend(ROOT, [1, 2])
    again.score(start, [3])
    again.score(again.extend(start, [9]), [4])
    assert one.digest() == again.build().digest()


@pytest.mark.parametrize(
    "other",
    [
        tree(([1, 2, 4], [4, 5])),
        tree(([1, 2, 3], [4, 6])),
        tree(([1, 2, 3, 4], [5])),
        tree(([1, 2], [3, 4, 5])),
        tree(BASE, ([1, 2], [3])),
        tree(BASE, BASE),
        tree(BASE, want_entropy=True),
        tree(BASE, want_top=1),
    ],
)
def test_trees_that_ask_for_anything_else_have_another_digest(other: TokenTree):
    assert other.digest() != tree(BASE).digest()


def test_where_a_branch_hangs_counts():
    flat = tree(([1, 2], [3]), ([1, 2], [7, 8]))
    deep = tree(([1, 2], [3]), ([1, 2, 7], [8]))
    assert flat.digest() != deep.digest()
