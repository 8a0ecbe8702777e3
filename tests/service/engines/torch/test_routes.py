"""Every route against plain transformers forwards, and the choice between routes."""

import numpy as np
import pytest
import torch

from opera_client.errors import NotSupported
from opera_service.engines.torch.routes import ROUTES
from opera_service.engines.torch.scorer import TreeScorer

ATTENTION = ["qwen3", "qwen3_tied", "qwen3_no_gqa", "qwen3_sliding", "llama", "mistral", "granite", "gpt2"]
CASES = [(name, route) for name in ATTENTION for route in ("tree_sdpa", "kv_fork", "naive")]
CASES += [(name, route) for name in ("gemma2", "bloom", "qwen3_next") for route in ("kv_fork", "naive")]


@pytest.mark.parametrize(("name", "route"), CASES)
def test_float64_scores_equal_plain_forwards(lab, trees, name, route):
    model = lab.make_model(name)
    scorer = TreeScorer(lab.load(name), route=route)
    # Linear attention's recurrence and Bloom's distance biases are float32 whatever the model's dtype.
    tolerance = 2e-5 if name in ("qwen3_next", "bloom") else 1e-10
    for budget in (4096, 23):
        scorer.max_batch_tokens = budget
        for tree, scores in zip(trees, scorer.score(trees), strict=True):
            np.testing.assert_allclose(scores.logprobs, lab.oracle_logprobs(model, tree), rtol=0, atol=tolerance)
            assert scores.logprobs.dtype == np.float64
            fed = tree.naive_tokens - tree.num_queries if route == "naive" else tree.num_tokens
            assert scores.tokens_computed == fed


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_equals_plain_forwards(lab, trees):
    model = lab.make_model("qwen3_sliding")  # layers of both kinds
    scorer = TreeScorer(lab.load("qwen3_sliding"), route="flex")
    for tree, scores in zip(trees, scorer.score(trees), strict=True):
        np.testing.assert_allclose(scores.logprobs, lab.oracle_logprobs(model, tree), rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_continues_from_kept_keys(lab):
    tree = lab.group_tree(responses=(14, 9), cuts=3, reference=3)
    scorer = TreeScorer(lab.load("qwen3_sliding"), route="flex", max_batch_tokens=19)
    expected = lab.oracle_logprobs(lab.make_model("qwen3_sliding"), tree)
    np.testing.assert_allclose(scorer.score([tree])[0].logprobs, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("route", ["tree_sdpa", "kv_fork", "naive"])
def test_float32_is_within_2e_5_of_float64(lab, trees, route):
    exact = lab.make_model("qwen3")
    scorer = TreeScorer(lab.load("qwen3", torch.float32), route=route)
    for tree, scores in zip(trees, scorer.score(trees), strict=True):
        assert scores.logprobs.dtype == np.float32
        np.testing.assert_allclose(scores.logprobs, lab.oracle_logprobs(exact, tree), rtol=0, atol=2e-5)


@pytest.mark.parametrize("route", ["tree_sdpa", "kv_fork"])
def test_bfloat16_is_as_close_to_float32_as_plain_forwards_are(lab, trees, route):
    half, naive = (TreeScorer(lab.load("llama", torch.bfloat16), route=each) for each in (route, "naive"))
    full = TreeScorer(lab.load("llama", torch.float32), route="naive")
    exact, mine, plain = (
        np.concatenate([scores.logprobs for scores in scorer.score(trees)]) for scorer in (full, half, naive)
    )
    assert np.abs(mine - exact).mean() <= 1.2 * np.abs(plain - exact).mean() + 1e-4


@pytest.mark.parametrize("route", ["tree_sdpa", "kv_fork", "naive"])
def test_one_token_at_a_time_is_still_exact(lab, route):
    tree = lab.edge_tree()
    scorer = TreeScorer(lab.load("qwen3_sliding"), route=route, max_batch_tokens=1)
    expected = lab.oracle_logprobs(lab.make_model("qwen3_sliding"), tree)
    np.testing.assert_allclose(scorer.score([tree])[0].logprobs, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("qwen3", "tree_sdpa"),
        ("mistral", "tree_sdpa"),  # sliding windows count positions
        ("granite", "tree_sdpa"),  # logits are scaled by the model itself
        ("gemma2", "kv_fork"),  # attention scores are soft-capped
        ("bloom", "kv_fork"),  # distances are biases built into its attention
        ("qwen3_next", "kv_fork"),  # linear attention
        ("mamba", "naive"),  # its cache continues one token at a time only
    ],
)
def test_auto_takes_the_fastest_route_that_is_right(lab, name, route):
    assert TreeScorer(lab.load(name), route="auto").route.name == route


@pytest.mark.parametrize("name", ["gemma2", "qwen3_next"])
@pytest.mark.parametrize("route", ["tree_sdpa", "flex"])
def test_a_route_that_would_be_wrong_is_refused_by_name(lab, name, route):
    with pytest.raises(NotSupported, match="--route"):
        TreeScorer(lab.load(name), route=route)


def test_the_probe_refuses_a_route_that_disagrees_with_plain_forwards(lab):
    loaded = lab.load("qwen3")
    backbone = loaded.model.base_model
    honest = backbone.forward

    def shifted(*args, position_ids=None, **kwargs):
        # A backbone that reads packed positions in its own way, as an architecture unknown to us might.
        return honest(*args, position_ids=None if position_ids is None else position_ids // 2, **kwargs)

    backbone.forward = shifted
    with pytest.raises(NotSupported, match="differ from plain forwards"):
        TreeScorer(loaded, route="tree_sdpa")


def test_unknown_routes_are_refused(lab):
    with pytest.raises(NotSupported, match="tree_sdpa, flex, kv_fork, kept_trunks, naive"):
        TreeScorer(lab.load("qwen3"), route="fast")
    assert list(ROUTES) == ["tree_sdpa", "flex", "kv_fork", "kept_trunks", "naive"]


def test_the_attention_of_the_model_is_given_back(lab):
    loaded = lab.load("qwen3")
    before = loaded.model.config._attn_implementation
    TreeScorer(loaded, route="tree_sdpa").score([lab.edge_tree()])
    assert loaded.model.config._attn_implementation == before
