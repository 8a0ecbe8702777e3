"""Steps, blocks and preorder numbers against the intervals of the tree itself."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_service.engines.torch.packed_batch import (
    QueryBlock,
    cut,
    join,
    last_descendant,
    parts,
    plan_steps,
    preorder,
)
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

ids = st.lists(st.integers(0, 2), min_size=1, max_size=7)
queries = st.lists(st.tuples(ids, ids), min_size=1, max_size=8)
batches = st.lists(queries, min_size=1, max_size=3)


def build(questions: list[tuple[list[int], list[int]]]) -> TokenTree:
    builder = TreeBuilder()
    for context, target in questions:
        builder.score(builder.extend(ROOT, context), target)
    return builder.build()


def path(tree: TokenTree, token: int) -> list[int]:
    return [index for start, stop in tree.intervals(token) for index in range(start, stop)]


@settings(max_examples=examples(150), deadline=None)
@given(batches)
def test_a_forest_is_its_trees_side_by_side(questions):
    trees = [build(each) for each in questions]
    batch = join(trees)
    query = base = 0
    for tree in trees:
        for own in range(tree.num_queries):
            assert [list(each) for each in batch.query_context(query)[:1]] == [list(tree.query_context(own)[0])]
            query += 1
        for token in range(tree.num_tokens):
            assert path(batch, base + token) == [base + index for index in path(tree, token)]
        base += tree.num_tokens
    assert (batch.num_queries, batch.num_tokens) == (query, base)
    assert batch.positions.tolist() == [len(path(batch, token)) - 1 for token in range(base)]


@settings(max_examples=examples(150), deadline=None)
@given(batches, st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_every_query_of_every_step_sees_its_path_and_nothing_else(questions, max_tokens, block, aligned):
    batch = join([build(each) for each in questions])
    seen = []
    for step in plan_steps(batch, max_tokens):
        slots = [*step.kept.tolist(), *range(step.start, step.stop)]
        assert step.num_tokens <= max_tokens
        assert len(slots) == step.num_keys
        for whole in step.blocks:
            origin = 0 if aligned else whole.start
            parts = list(cut(whole, block, origin))
            assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
            assert (parts[0].start, parts[-1].stop) == (whole.start, whole.stop)
            for part in parts:
                assert (part.start - origin) // block == (part.stop - 1 - origin) // block
                keys = [slots[slot] for start, stop in part.keys for slot in range(start, stop)]
                for back, query in enumerate(range(part.stop - 1, part.start - 1, -1)):
                    token = step.start + query
                    assert keys[: len(keys) - back] == path(batch, token)
                    seen.append(token)
    assert sorted(seen) == list(range(batch.num_tokens))


@settings(max_examples=examples(100), deadline=None)
@given(batches, st.integers(1, 9))
def test_a_step_keeps_exactly_what_later_steps_see(questions, max_tokens):
    batch = join([build(each) for each in questions])
    kept = None
    for step in plan_steps(batch, max_tokens):
        slots = np.concatenate([step.kept, np.arange(step.start, step.stop)])
        if kept is not None:
            assert step.kept.tolist() == kept
        later = {token for query in range(step.stop, batch.num_tokens) for token in path(batch, query)}
        kept = slots[step.keep].tolist()
        assert kept == sorted(token for token in later if token < step.stop)
    assert kept == []


@settings(max_examples=examples(100), deadline=None)
@given(batches)
def test_preorder_numbers_tell_ancestors_from_strangers(questions):
    batch = join([build(each) for each in questions])
    number, below = preorder(batch)
    assert sorted(number.tolist()) == list(range(batch.num_tokens))
    for query in range(batch.num_tokens):
        visible = (number <= number[query]) & (number[query] < below)
        assert np.flatnonzero(visible).tolist() == path(batch, query)
    last = last_descendant(batch)
    for token in range(batch.num_tokens):
        through = [query for query in range(batch.num_tokens) if token in path(batch, query)]
        assert last[token] == max(through)


@given(
    wanted=st.sets(st.integers(0, 19)), low=st.integers(0, 9), size=st.integers(1, 10), before=st.integers(0, 5)
)
def test_parts_are_the_wanted_queries_with_the_keys_up_to_their_own(wanted, low, size, before):
    block = QueryBlock(low, low + size, ((100, 100 + before), (200, 203 + size)))
    found = list(parts(block, np.array(sorted(wanted), dtype=np.int64)))
    assert [query for part in found for query in range(part.start, part.stop)] == sorted(
        wanted & set(range(low, low + size))
    )
    for part in found:
        assert part.keys == ((100, 100 + before), (200, 203 + part.stop - low))
    assert all(one.stop < two.start for one, two in itertools.pairwise(found))
