"""Plans: every query finds its own rows again, equal prompts are asked once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opera_client.errors import ContextTooLong, EngineFailed, TokenOutOfVocabulary
from opera_service.engines.vllm.plan import Plan, Prompt, Rows
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=6)
queries = st.lists(st.tuples(tokens, tokens), min_size=1, max_size=8)


def tree_of(
    pairs: list[tuple[list[int], list[int]]], *, want_top: int = 0, want_entropy: bool = False
) -> TokenTree:
    builder = TreeBuilder()
    for context, target in pairs:
        builder.score(builder.extend(ROOT, context), target)
    return builder.build(want_top=want_top, want_entropy=want_entropy)


def rows_of(prompt: Prompt) -> Rows:
    """A stand-in for the engine: each row is a number that depends on the whole path before it."""
    logprobs = [_number(prompt.ids[: at + 1]) for at in range(prompt.start, len(prompt.ids))]
    top = np.asarray([[at + k for k in range(prompt.top)] for at in range(prompt.start, len(prompt.ids))])
    shape = (prompt.rows, prompt.top)
    entropies = -np.float32(logprobs) if prompt.entropy else None
    return Rows(
        np.float32(logprobs), len(prompt.ids), top.reshape(shape).astype(np.int32), top.reshape(shape), entropies
    )


def _number(path: np.ndarray) -> float:
    return -1.0 - float(sum((token + 1) * 4.0**-depth for depth, token in enumerate(path[::-1].tolist())))


@settings(deadline=None)
@given(st.lists(queries, min_size=1, max_size=3))
def test_every_query_gets_the_rows_of_its_own_path(groups):
    trees = [tree_of(pairs) for pairs in groups]
    plan = Plan(trees)
    for tree, scores in zip(trees, plan.scores([rows_of(prompt) for prompt in plan.prompts], "v"), strict=True):
        for query in range(tree.num_queries):
            ids, context = tree.query_context(query)
            expected = [_number(ids[: at + 1]) for at in range(context, len(ids))]
            np.testing.assert_array_equal(scores.of(query), np.float32(expected))


@settings(deadline=None)
@given(queries)
def test_no_path_is_asked_twice_and_nobody_waits_for_a_trunk_that_is_scored_itself(pairs):
    plan = Plan([tree_of(pairs)])
    assert len(plan.prompts) == len({tuple(context + target) for context, target in pairs})
    asked = [plan.prompts[index] for index in plan.order]
    assert asked == sorted(asked, key=lambda prompt: (prompt.start, -len(prompt.ids)))


@settings(deadline=None)
@given(st.lists(st.tuples(queries, st.booleans()), min_size=1, max_size=3))
def test_entropies_go_to_the_trees_that_asked(groups):
    trees = [tree_of(pairs, want_entropy=wanted) for pairs, wanted in groups]
    plan = Plan(trees)
    wanted = {
        tree.query_context(q)[0].tobytes() for tree in trees if tree.want_entropy for q in range(tree.num_queries)
    }
    assert {prompt.ids.tobytes() for prompt in plan.prompts if prompt.entropy} == wanted
    for tree, scores in zip(trees, plan.scores([rows_of(prompt) for prompt in plan.prompts], "v"), strict=True):
        if not tree.want_entropy:
            assert scores.entropies is None
            continue
        for query in range(tree.num_queries):
            np.testing.assert_array_equal(scores.entropies_of(query), -scores.of(query))


def test_the_first_tree_pays_for_what_is_shared():
    tree = tree_of([([1, 2], [3, 4])])
    plan = Plan([tree, tree])
    first, second = plan.scores([rows_of(prompt) for prompt in plan.prompts], "v")
    assert (first.tokens_computed, second.tokens_computed) == (4, 0)


def test_top_tokens_are_cut_to_what_each_tree_asked():
    pairs = [([1], [2, 0])]
    plan = Plan([tree_of(pairs), tree_of(pairs, want_top=2), tree_of(pairs, want_top=1)])
    none, two, one = plan.scores([rows_of(prompt) for prompt in plan.prompts], "v")
    assert none.top_ids is None
    assert two.top_ids is not None
    assert one.top_ids is not None
    np.testing.assert_array_equal(two.top_ids, [[1, 2], [2, 3]])
    np.testing.assert_array_equal(one.top_ids, [[1], [2]])


def test_a_number_that_is_none_spoils_its_query_only():
    plan = Plan([tree_of([([1], [2]), ([3], [4])])])
    rows = {(1, 2): Rows(np.float32([np.nan]), 2), (3, 4): Rows(np.float32([-1.5]), 2)}
    (scores,) = plan.scores([rows[tuple(prompt.ids.tolist())] for prompt in plan.prompts], "v")
    assert scores.of(1).tolist() == [-1.5]
    with pytest.raises(EngineFailed, match="not finite"):
        scores.of(0)


def test_what_the_model_cannot_take():
    plan = Plan([tree_of([([1, 2], [9])])])
    plan.check(vocab_size=10, max_context=3)
    with pytest.raises(TokenOutOfVocabulary, match="9"):
        plan.check(vocab_size=9, max_context=3)
    with pytest.raises(ContextTooLong, match="3 tokens"):
        plan.check(vocab_size=10, max_context=2)
