"""The last layer's feed-forward network sees the tokens that are read, and no others."""

import numpy as np
import pytest

from opera_service.engines.torch.last_layer import feed_forward
from opera_service.engines.torch.scorer import TreeScorer


@pytest.mark.parametrize("budget", [2048, 7])
def test_only_tokens_that_are_read_go_through_the_last_feed_forward_network(lab, budget):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa", max_batch_tokens=budget)
    layers = scorer.loaded.model.base_model.layers
    seen = dict.fromkeys(range(len(layers)), 0)
    for number, layer in enumerate(layers):
        layer.mlp.gate_proj.register_forward_hook(
            lambda module, given, answer, number=number: seen.update({number: seen[number] + answer.shape[1]})
        )
    tree = lab.group_tree()
    scores = scorer.score([tree])[0]
    read = len(np.unique(tree.rows))
    assert read < tree.num_tokens
    assert list(seen.values()) == [tree.num_tokens] * (len(layers) - 1) + [read]
    np.testing.assert_allclose(
        scores.logprobs, lab.oracle_logprobs(lab.make_model("qwen3"), tree), rtol=0, atol=1e-10
    )


def test_only_tokens_that_are_read_ask_in_the_last_attention(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    answers = []
    for layer in scorer.loaded.model.base_model.layers:
        layer.self_attn.o_proj.register_forward_pre_hook(lambda module, given: answers.append(given[0][0]))
    tree = lab.group_tree()
    scorer.score([tree])
    asked = [np.flatnonzero(answer.abs().sum(dim=1).numpy()).tolist() for answer in answers]
    assert asked[:-1] == [list(range(tree.num_tokens))] * (len(asked) - 1)
    assert asked[-1] == np.unique(tree.rows).tolist()


def test_a_failure_leaves_no_hook_behind(lab):
    scorer = TreeScorer(lab.load("qwen3"), route="tree_sdpa")
    module = feed_forward(scorer.loaded.model)
    broken = module.down_proj.register_forward_hook(lambda *_: (_ for _ in ()).throw(ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        scorer.score([lab.group_tree()])
    broken.remove()
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_experts_and_unknown_layers_compute_everything(lab):
    assert feed_forward(lab.make_model("qwen3_next")) is None
    assert feed_forward(lab.make_model("gpt2")) is None
