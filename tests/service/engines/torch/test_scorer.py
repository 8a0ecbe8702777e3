"""Packing to a budget, refusals before work, memory that ends, numbers that are not finite."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_client.errors import ContextTooLong, EngineFailed, EngineOutOfMemory, TokenOutOfVocabulary
from opera_service.engines.torch.memory import out_of_memory
from opera_service.engines.torch.scorer import DEFAULT_TOKENS, MIN_TOKENS, TreeScorer, pack
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 60))
def test_bundles_hold_every_tree_once_and_only_giants_exceed_the_budget(sizes, budget):
    bundles = pack(sizes, budget)
    assert sorted(index for bundle in bundles for index in bundle) == list(range(len(sizes)))
    for bundle in bundles:
        assert len(bundle) == 1 or sum(sizes[index] for index in bundle) <= budget


def test_bundles_are_full():
    assert len(pack([5] * 12, 20)) == 3


def refuse_forwards_over(scorer, limit, error):
    """Let the model's memory end when more than `limit` tokens are fed at once."""
    backbone = scorer.loaded.model.base_model
    honest, fed = backbone.forward, []

    def forward(*args, input_ids=None, **kwargs):
        fed.append(input_ids.numel())
        if input_ids.numel() > limit:
            raise error
        return honest(*args, input_ids=input_ids, **kwargs)

    # The head puts its own answer over the backbone's forward for a moment, so this lives on the class.
    kind = type(backbone)
    backbone.__class__ = type(kind.__name__, (kind,), {"forward": lambda self, *a, **k: forward(*a, **k)})
    return fed


@pytest.mark.parametrize("route", ["tree_sdpa", "kv_fork", "naive"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_memory_that_ends_halves_the_forward_until_it_fits(lab, route, error):
    tree = lab.group_tree()
    scorer = TreeScorer(lab.load("qwen3"), route=route)
    fed = refuse_forwards_over(scorer, 60 if route == "naive" else 25, error)
    expected = lab.oracle_logprobs(lab.make_model("qwen3"), tree)
    np.testing.assert_allclose(scorer.score([tree])[0].logprobs, expected, rtol=0, atol=1e-10)
    assert max(fed) > 25 or route == "kv_fork"
    assert scorer.max_batch_tokens == DEFAULT_TOKENS["cpu"]


def test_what_a_route_keeps_makes_room_when_memory_ends(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="kept_trunks")

    def tree(token: int) -> TokenTree:
        builder = TreeBuilder()
        builder.score(builder.extend(ROOT, [token] * 100), [4, 5])
        return builder.build()

    scorer.score([tree(3)])
    honest, refused = scorer.route.run, []

    def run(readout, budget):
        if scorer.route.held_tokens:
            refused.append(budget)
            raise torch.OutOfMemoryError("CUDA out of memory")
        honest(readout, budget)

    scorer.route.run = run
    expected = lab.oracle_logprobs(lab.make_model("qwen3"), tree(7))
    np.testing.assert_allclose(scorer.score([tree(7)])[0].logprobs, expected, rtol=0, atol=1e-10)
    assert len(refused) == 1


def test_memory_that_never_suffices_is_a_typed_error(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    fed = refuse_forwards_over(scorer, 0, torch.OutOfMemoryError("CUDA out of memory"))
    tree = lab.group_tree()
    with pytest.raises(EngineOutOfMemory, match="do not fit"):
        scorer.score([tree])
    assert tree.num_tokens == 127
    assert fed == [127, 63, 31, MIN_TOKENS]


def test_other_errors_are_not_taken_for_missing_memory(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    fed = refuse_forwards_over(scorer, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        scorer.score([lab.group_tree()])
    assert len(fed) == 1
    assert out_of_memory(MemoryError())
    assert not out_of_memory(ValueError("no"))


@pytest.mark.parametrize("wrong", [89, -1])
@pytest.mark.parametrize("where", ["context", "target"])
def test_ids_outside_the_vocabulary_are_refused(lab, wrong, where):
    builder = TreeBuilder()
    context, target = ([1, wrong], [3]) if where == "context" else ([1], [wrong])
    builder.score(builder.extend(ROOT, context), target)
    scorer = TreeScorer(lab.load("qwen3"), route="naive")
    with pytest.raises(TokenOutOfVocabulary, match=f"id {wrong}"):
        scorer.score([builder.build()])


def test_the_model_s_length_is_a_limit_and_reached(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    for length, fits in ((254, True), (255, False)):
        builder = TreeBuilder()
        builder.score(builder.extend(ROOT, [3] * length), [4, 5])
        if fits:
            assert len(scorer.score([builder.build()])[0].logprobs) == 2
        else:
            with pytest.raises(ContextTooLong, match="257"):
                scorer.score([builder.build()])


@given(token=st.integers(0, 88), seed=st.integers(0, 3), value=st.sampled_from([float("nan"), float("inf")]))
@settings(max_examples=examples(20), deadline=None)
@pytest.mark.parametrize("route", ["tree_sdpa", "kv_fork", "naive"])
def test_a_token_that_makes_nan_spoils_what_it_feeds_and_nothing_else(lab, route, token, seed, value):
    trees = [lab.group_tree(seed=seed), lab.edge_tree(want_entropy=True, want_top=2)]
    expected = TreeScorer(lab.load("qwen3"), route=route).score(trees)
    scorer = TreeScorer(lab.load("qwen3"), route=route)
    scorer.loaded.model.get_input_embeddings().weight.data[token] = value
    for tree, scores, quiet in zip(trees, scorer.score(trees), expected, strict=True):
        for query in range(tree.num_queries):
            path, _ = tree.query_context(query)
            if token in path[:-1]:  # what is fed; the last token of a target is not
                with pytest.raises(EngineFailed, match="not finite"):
                    scores.of(query)
                continue
            np.testing.assert_allclose(scores.of(query), quiet.of(query), rtol=0, atol=1e-10)
            if tree.want_top:
                np.testing.assert_allclose(
                    scores.entropies_of(query), quiet.entropies_of(query), rtol=0, atol=1e-10
                )
                np.testing.assert_array_equal(scores.top_of(query, 2)[0], quiet.top_of(query, 2)[0])


def test_a_route_that_forgets_rows_is_caught(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="naive")
    honest = scorer.route.run_some
    scorer.route.run_some = lambda readout, budget, queries: honest(readout, budget, list(queries)[1:])
    with pytest.raises(EngineFailed, match="left rows unread"):
        scorer.score([lab.edge_tree()])


@pytest.mark.parametrize("route", ["auto", "naive"])
def test_a_model_that_gives_no_numbers_is_refused_at_the_start(lab, route):
    loaded = lab.load("qwen3")
    loaded.model.lm_head.weight.data[3] = float("nan")
    with pytest.raises(EngineFailed, match="not finite"):
        TreeScorer(loaded, route=route)


def test_nothing_to_score_is_nothing(lab):
    assert TreeScorer(lab.load("qwen3"), route="naive").score([]) == []
    with pytest.raises(ValueError, match="at least 1"):
        TreeScorer(lab.load("qwen3"), max_batch_tokens=0)
