"""The measurements themselves, against hand-computed values and a slow oracle."""

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opera_demo.evaluate import auc, boundaries, encoder, measure_answers, price
from opera_demo.traces import Thought
from opera_demo.world import Event, Task

PEARS = Task("shop", "pears", 12, (Event("Ana", "sold", 3), Event("Ben", "brought", 5)))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=37,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.3,
    )
    return Qwen3ForCausalLM(config).double().eval()


def test_prices_agree_with_one_forward_a_token(small):
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, 37, size=context).tolist(), rng.integers(0, 37, size=target).tolist())
        for context, target in [(1, 1), (5, 3), (9, 1), (2, 7), (12, 4)]
    ]
    for (context, target), found in zip(pairs, price(small, pairs, batch=3), strict=True):
        assert len(found) == len(target)
        for place, token in enumerate(target):
            logits = small(input_ids=torch.tensor([context + target[:place]])).logits[0, -1]
            assert found[place] == pytest.approx(logits.log_softmax(-1)[token].item(), abs=1e-5)


def test_auc_by_hand():
    assert auc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auc([0.0], [1.0]) == 0.0
    assert auc([1.0], [1.0]) == 0.5
    assert auc([1.0, 3.0], [2.0]) == 0.5


def test_boundaries_are_closed_prefixes_of_the_response(packaged_tokenizer):
    thoughts = [Thought("step", "Ana sold 3, 12 minus 3 is 9.", 9, 1), Thought("filler", "So.", 9, 1)]
    texts = [packaged_tokenizer.decode(ids) for ids in boundaries(PEARS, thoughts, encoder(packaged_tokenizer))]
    start = f"<|im_start|>user\n{PEARS.question}<|im_end|>\n<|im_start|>assistant\n<think>\n"
    first = "Ana sold 3, 12 minus 3 is 9.\n\n"
    close = "</think>\n\n"
    assert texts == [start + close, start + first + close, start + first + "So.\n\n" + close]


def test_answers_count_right_ones_and_reflective_thoughts():
    responses = [
        "<think>\nAna sold 3, 12 minus 3 is 8.\n\nWait, that is wrong, 12 minus 3 is 9.\n\n</think>\n\n"
        "The shop now has 14 pears.",
        "<think>\n</think>\n\nThe shop now has 13 pears.",
    ]
    answers = measure_answers([PEARS, PEARS], responses)
    assert answers.accuracy == 0.5
    assert answers.reflective == 0.5
    assert answers.thoughts == 1.0
