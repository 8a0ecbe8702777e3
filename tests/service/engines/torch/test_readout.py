"""Log-probabilities, entropies and best tokens against the full softmax; logits stay small."""

import numpy as np
import pytest
import torch

from opera_service.engines.torch.scorer import TreeScorer


@pytest.mark.parametrize("route", ["tree_sdpa", "kv_fork", "naive"])
@pytest.mark.parametrize("chunk_rows", [4096, 1])
def test_entropy_and_best_tokens_are_those_of_the_full_softmax(lab, route, chunk_rows):
    scorer = TreeScorer(lab.load("qwen3"), route=route)
    scorer.head.chunk_rows = chunk_rows
    tree = lab.edge_tree(want_entropy=True, want_top=3)
    scores = scorer.score([tree])[0]
    every = lab.oracle(lab.make_model("qwen3"), tree)
    np.testing.assert_allclose(scores.entropies, -(every.exp() * every).sum(1).numpy(), rtol=0, atol=1e-10)
    best = every.topk(3, dim=1)
    assert scores.top_ids.tolist() == best.indices.tolist()
    np.testing.assert_allclose(scores.top_logprobs, best.values.numpy(), rtol=0, atol=1e-10)


def test_each_tree_of_a_batch_gets_only_what_it_asked_for(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    plain, curious, greedy = (
        lab.edge_tree(),
        lab.edge_tree(want_entropy=True, want_top=1),
        lab.group_tree(want_top=4),
    )
    first, second, third = scorer.score([plain, curious, greedy])
    assert first.entropies is None
    assert first.top_ids is None
    assert second.entropies.shape == (curious.num_scored,)
    assert second.top_ids.shape == (curious.num_scored, 1)
    assert third.entropies is None
    assert third.top_logprobs.shape == (greedy.num_scored, 4)
    np.testing.assert_allclose(first.logprobs, second.logprobs, rtol=0, atol=1e-12)
    alone, other = (scorer.score([tree])[0] for tree in (curious, greedy))
    np.testing.assert_allclose(second.entropies, alone.entropies, rtol=0, atol=1e-12)
    assert second.top_ids.tolist() == alone.top_ids.tolist()
    assert third.top_ids.tolist() == other.top_ids.tolist()


def test_a_token_the_model_rules_out_has_no_part_in_the_entropy(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    head = scorer.loaded.model.lm_head
    head.bias = torch.nn.Parameter(torch.zeros(lab.vocab, dtype=torch.float64))
    tree = lab.edge_tree(want_entropy=True)
    unused = next(token for token in range(lab.vocab) if token not in tree.targets)
    head.bias.data[unused] = float("-inf")
    assert np.isfinite(scorer.score([tree])[0].entropies).all()


def test_logits_exist_for_a_chunk_of_scored_rows_only(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    scorer.head.chunk_rows = 5
    seen = []
    scorer.loaded.model.lm_head.register_forward_hook(lambda module, given, answer: seen.append(answer.shape))
    tree = lab.group_tree()
    scorer.score([tree])
    assert max(shape[-2] for shape in seen) == 5
    assert sum(shape[-2] for shape in seen) == len(np.unique(tree.rows))


def test_the_head_leaves_the_backbone_as_it_was(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    scorer.score([lab.edge_tree()])
    assert "forward" not in vars(scorer.loaded.model.base_model)
