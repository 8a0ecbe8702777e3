"""The token tree against a plain set of prefixes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

ids = st.lists(st.integers(0, 2), min_size=1, max_size=6)


def build(queries: list[tuple[list[int], list[int]]]) -> TokenTree:
    builder = TreeBuilder()
    for context, target in queries:
        builder.score(builder.extend(ROOT, context), target)
    return builder.build()


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=10))
def test_every_distinct_prefix_is_held_once_and_every_query_reads_its_own_path(queries):
    tree = build(queries)
    fed = {tuple((c + t)[:k]) for c, t in queries for k in range(1, len(c + t))}
    assert tree.num_tokens == len(fed)
    assert (tree.num_queries, tree.num_scored) == (len(queries), sum(len(target) for _, target in queries))
    assert tree.naive_tokens == sum(len(c) + len(t) for c, t in queries)
    assert tree.max_length == max(len(c) + len(t) for c, t in queries)
    for number, (context, target) in enumerate(queries):
        path, context_length = tree.query_context(number)
        assert path.tolist() == context + target
        assert context_length == len(context)
        rows = tree.rows[tree.query_slice(number)]
        for offset, row in enumerate(rows):
            visible = np.concatenate([np.arange(a, b) for a, b in tree.intervals(int(row))])
            assert tree.tokens[visible].tolist() == (context + target)[: len(context) + offset]
            assert tree.positions[visible].tolist() == list(range(len(visible)))


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=8), st.randoms())
def test_the_order_of_questions_changes_neither_size_nor_runs(queries, random):
    shuffled = random.sample(queries, len(queries))
    first, second = build(queries), build(shuffled)
    assert (first.num_tokens, first.num_paths) == (second.num_tokens, second.num_paths)


def test_a_response_and_its_boundaries_are_one_run_with_a_short_branch_at_each():
    prompt, response, reference = [1, 2], [3, 4, 5, 6, 7, 8], [9, 9, 9]
    tree = build([(prompt + response[:cut], reference) for cut in (0, 2, 4)])
    trunk = tree.tokens[: int(tree.run_start[1])].tolist()
    assert trunk == prompt + response[:4] + reference[:-1]
    assert tree.num_paths == 3
    assert tree.run_parent.tolist() == [-1, 1, 3]


def test_growing_step_by_step_equals_growing_at_once():
    builder = TreeBuilder()
    cursor = ROOT
    for token in [1, 2, 3]:
        cursor = builder.extend(cursor, [token])
        builder.score(cursor, [7, 8])
    stepwise = builder.build()
    at_once = build([([1], [7, 8]), ([1, 2], [7, 8]), ([1, 2, 3], [7, 8])])
    assert stepwise.tokens.tolist() == at_once.tokens.tolist()
    assert stepwise.run_parent.tolist() == at_once.run_parent.tolist()


def test_refusals():
    builder = TreeBuilder()
    with pytest.raises(ValueError, match="nothing to score"):
        builder.build()
    with pytest.raises(ValueError, match="context needs at least one"):
        builder.score(ROOT, [1])
    with pytest.raises(ValueError, match="target needs at least one"):
        builder.score(builder.extend(ROOT, [1]), [])
    with pytest.raises(ValueError, match="flat list"):
        builder.extend(ROOT, [[1]])


def test_nothing_is_wished_for_by_itself_and_a_wish_is_the_tree_s():
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [1]), [2])
    assert (builder.num_queries, builder.build().want_entropy, builder.build().want_top) == (1, False, 0)
    builder.score(builder.extend(ROOT, [1]), [3], entropy=True, top=2)
    builder.score(builder.extend(ROOT, [1]), [4], top=1)
    assert (builder.num_queries, builder.build().want_entropy, builder.build().want_top) == (3, True, 2)


def test_trees_that_ask_for_other_numbers_have_other_digests():
    def asked(target: int, **wishes) -> TreeBuilder:
        builder = TreeBuilder()
        builder.score(builder.extend(ROOT, [1]), [target], **wishes)
        return builder

    beside = [asked(2), asked(2)]
    for builder, other in zip(beside, (3, 4), strict=True):
        builder.second.score(builder.second.extend(ROOT, [1]), [other])
    builders = [asked(2), asked(3), asked(2, entropy=True), asked(2, top=1), asked(2, grows=True), *beside]
    assert len({builder.build().digest() for builder in builders}) == len(builders)
    assert beside[0].build().digest() == beside[0].build().digest()
    assert beside[0].build().fed_tokens == 2
