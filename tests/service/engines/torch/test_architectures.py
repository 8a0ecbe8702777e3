"""Architectures behind the lengths of their configuration, in company, and backwards: right or refused."""

import numpy as np
import pytest
import torch

from opera_client.errors import NotSupported
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.naive import NaiveRoute
from opera_service.engines.torch.probe import critical_lengths, follows_longest, must_be_causal
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.engines.torch.tree_sdpa import SdpaAttention

from .architectures import LENGTH, VOCABULARY, WINDOW, judge, long_tree, oracle, tiny

LONG_FACTORS = {
    "original_max_position_embeddings": WINDOW,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "original_max_position_embeddings": WINDOW,
        "short_factor": [1.0] * 4,
        "long_factor": [3.0, 2.0, 5.0, 4.0],
        "partial_rotary_factor": 1.0,
        "short_mscale": 1.0,
        "long_mscale": 1.0,
    },
}
VARIANTS = {
    "phi3, long factors": ("phi3", LONG_FACTORS),
    "phimoe, long factors": ("phimoe", LONG_FACTORS),
    "llama, dynamic factors": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0},
         "max_position_embeddings": LENGTH},
    ),
    "qwen2_moe, windows in every layer": ("qwen2_moe", {"layer_types": ["sliding_attention"] * 2}),
    "qwen2, windows in one layer": ("qwen2", {"layer_types": ["sliding_attention", "full_attention"]}),
    "gemma2": ("gemma2", {}),
    "mistral": ("mistral", {}),
    "nemotron_h, whose recurrence takes a single token in its own way": ("nemotron_h", {}),
    "opt": ("opt", {}),
}  # fmt: skip
TOLERANCE = 2e-5
"""Nats: some kernels compute in float32 whatever the model's dtype."""


@pytest.mark.parametrize("name", VARIANTS)
def test_scores_are_those_of_plain_forwards_of_single_contexts(name):
    model_type, more = VARIANTS[name]
    verdict = judge(model_type, **more)
    assert verdict.route, verdict.reason
    assert verdict.apart < TOLERANCE


@pytest.mark.parametrize("name", ["phi3, long factors"])
def test_factors_that_follow_the_longest_sequence_are_computed_one_length_at_a_time(name):
    model_type, more = VARIANTS[name]
    loaded = LoadedModel.of(tiny(model_type, torch.float32, **more), name=name)
    assert critical_lengths(loaded) == [WINDOW]
    assert follows_longest(loaded)
    tree, readings = long_tree(VOCABULARY), []
    scorer = TreeScorer(loaded)
    assert scorer.route.name == "naive"
    plain = NaiveRoute(loaded.model)
    for route in (scorer.route, plain):
        scorer.route = route
        readings.append(scorer.score([tree])[0].logprobs)
    expected = oracle(loaded.model, tree)
    np.testing.assert_allclose(readings[0], expected, rtol=0, atol=TOLERANCE)
    assert np.abs(readings[1] - expected).max() > 1e-3, "padded to one length, the numbers would be wrong"


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "xlm-roberta"])
def test_an_encoder_is_refused_and_served_when_it_is_a_decoder(model_type):
    with pytest.raises(NotSupported, match="no causal language model"):
        must_be_causal(LoadedModel.of(tiny(model_type), name=model_type))
    verdict = judge(model_type, is_decoder=True)
    assert verdict.apart < TOLERANCE or verdict.reason


def test_a_route_that_differs_only_behind_a_window_is_refused(monkeypatch):
    """A short probe alone lets it pass: the attention is told of no window, as where only the mask knows it."""
    honest = SdpaAttention.attend

    def unaware(self, query, key, value, scale, window, *, last):
        return honest(self, query, key, value, scale, None, last=last)

    monkeypatch.setattr(SdpaAttention, "attend", unaware)
    loaded = LoadedModel.of(tiny("mistral"), name="mistral")
    scorer = TreeScorer(loaded)
    assert scorer.route.name != "tree_sdpa"
    tree = long_tree(VOCABULARY)
    np.testing.assert_allclose(
        scorer.score([tree])[0].logprobs, oracle(loaded.model, tree), rtol=0, atol=TOLERANCE
    )


def test_a_length_that_takes_too_long_to_try_leaves_plain_forwards(monkeypatch):
    loaded = LoadedModel.of(tiny("phimoe", torch.float32), name="phimoe")
    monkeypatch.setattr("opera_service.engines.torch.routes.affordable", lambda _: WINDOW - 1)
    assert TreeScorer(loaded).route.name == "naive"
    told = LoadedModel.of(tiny("mistral"), name="mistral")
    assert TreeScorer(told).route.name == "tree_sdpa", "every layer hands its window to its attention"
