"""Sampling against greedy decoding by transformers, against frequencies, and against itself."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from opera_client.errors import ContextTooLong, EmptyContext, InvalidRequest, TokenOutOfVocabulary
from opera_service.engines.base import GenerationRequest
from opera_service.engines.torch.sampler import Sampler
from opera_service.scoring.tree import as_ids


@pytest.fixture(scope="module")
def sampler(lab) -> Sampler:
    return Sampler(lab.load("qwen3"), 4096)


def ask(ids, **changes) -> GenerationRequest:
    return GenerationRequest(**{"prompt_ids": as_ids(ids), "max_tokens": 8, "seed": 1, **changes})


def greedy_by_transformers(model, ids, count):
    answer = model.generate(torch.as_tensor([ids]), do_sample=False, max_new_tokens=count, pad_token_id=0)
    return answer[0, len(ids) :].tolist()


@pytest.mark.parametrize("name", ["qwen3", "mistral", "qwen3_next", "mamba", "gpt2"])
def test_greedy_batches_equal_transformers_one_by_one(lab, name):
    prompts = [lab.random_ids(seed, length).tolist() for seed, length in ((1, 3), (2, 11), (3, 1), (4, 3))]
    model = lab.make_model(name)
    answers = Sampler(lab.load(name), 4096).generate([ask(ids, temperature=0) for ids in prompts])
    for ids, (answer,) in zip(prompts, answers, strict=True):
        assert answer.token_ids.tolist() == greedy_by_transformers(model, ids, 8)


def test_a_sample_depends_on_its_seed_and_number_alone(sampler):
    alone = sampler.generate([ask([5, 6, 7], n=2)])[0]
    crowd = sampler.generate([ask([9], n=3, seed=4), ask([5, 6, 7], n=4), ask([1] * 20)])[1]
    for first, second in zip(alone, crowd, strict=False):
        assert first.token_ids.tolist() == second.token_ids.tolist()
    assert len({tuple(each.token_ids.tolist()) for each in crowd}) == 4
    assert sampler.generate([ask([5, 6, 7], seed=2)])[0][0].token_ids.tolist() != alone[0].token_ids.tolist()


def test_samples_follow_the_model_s_distribution(lab, sampler):
    with torch.no_grad():
        logits = lab.make_model("qwen3")(torch.tensor([[5, 6, 7]])).logits[0, -1]
    flat = torch.softmax(logits / 3, -1).numpy()
    answers = sampler.generate([ask([5, 6, 7], n=3000, max_tokens=1, temperature=3.0)])[0]
    counts = np.bincount([int(each.token_ids[0]) for each in answers], minlength=lab.vocab)
    common = flat * 3000 > 5
    expected = flat[common] * counts[common].sum() / flat[common].sum()
    assert common.sum() > 20
    assert chisquare(counts[common], expected).pvalue > 1e-4


def test_top_k_and_top_p_keep_the_best_tokens(lab, sampler):
    with torch.no_grad():
        logits = lab.make_model("qwen3")(torch.tensor([[5, 6, 7]])).logits[0, -1]
    weights, order = torch.softmax(logits / 3, -1).sort(descending=True)
    nucleus = int((weights.cumsum(0) - weights < 0.5).sum())
    for limits, size in (({"top_k": 3}, 3), ({"top_p": 0.5}, nucleus), ({"top_p": 1e-6}, 1)):
        answers = sampler.generate([ask([5, 6, 7], n=400, max_tokens=1, temperature=3.0, **limits)])[0]
        assert {int(each.token_ids[0]) for each in answers} == set(order[:size].tolist())


def test_generation_ends_at_a_stop_id_and_keeps_it(lab, sampler):
    free = greedy_by_transformers(lab.make_model("qwen3"), [5, 6, 7], 8)
    stop = free[3]
    answer = sampler.generate([ask([5, 6, 7], temperature=0, stop_ids=(stop,))])[0][0]
    assert answer.token_ids.tolist() == free[: free.index(stop) + 1]
    assert answer.finish_reason == "stop"
    assert sampler.generate([ask([5, 6, 7], temperature=0)])[0][0].finish_reason == "length"


def test_a_continuation_ends_alone_when_the_caller_has_enough(sampler):
    (free,) = sampler.generate([ask([5, 6, 7], n=3)])
    mark = int(free[1].token_ids[2])
    (answers,) = sampler.generate([ask([5, 6, 7], n=3, enough=lambda ids: ids[-1] == mark)])
    for one, whole in zip(answers, free, strict=True):
        ids = whole.token_ids.tolist()
        end = ids.index(mark) + 1 if mark in ids[:-1] else len(ids)
        assert one.token_ids.tolist() == ids[:end]
        assert one.finish_reason == ("enough" if end < len(ids) else "length")
    assert answers[1].finish_reason == "enough"


def test_end_of_text_always_stops(lab):
    loaded = lab.load("qwen3")
    free = greedy_by_transformers(lab.make_model("qwen3"), [5, 6, 7], 8)
    loaded.model.generation_config.eos_token_id = [free[2]]
    answer = Sampler(loaded, 4096).generate([ask([5, 6, 7], temperature=0)])[0][0]
    assert answer.token_ids.tolist() == free[: free.index(free[2]) + 1]
    assert answer.finish_reason == "stop"


def test_generation_ends_at_the_model_s_length(sampler):
    answer = sampler.generate([ask([5] * 253, max_tokens=50, temperature=0)])[0][0]
    assert len(answer.token_ids) == 3
    assert answer.finish_reason == "length"


def test_a_budget_of_one_token_changes_nothing(lab, sampler):
    requests = [ask([5, 6, 7], n=5), ask([8, 9])]
    tight = Sampler(lab.load("qwen3"), 1).generate(requests)
    for first, second in zip(tight, sampler.generate(requests), strict=True):
        assert [each.token_ids.tolist() for each in first] == [each.token_ids.tolist() for each in second]


def test_nobody_else_s_random_numbers_are_touched(sampler):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global generator is what is watched
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    sampler.generate([ask([5, 6, 7])])
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (ask([]), EmptyContext, "prompt"),
        (ask([89]), TokenOutOfVocabulary, "prompt"),
        (ask([1] * 256), ContextTooLong, "prompt"),
        (ask([1], n=0), InvalidRequest, "n"),
        (ask([1], max_tokens=0), InvalidRequest, "max_tokens"),
        (ask([1], temperature=-1.0), InvalidRequest, "temperature"),
        (ask([1], top_p=0.0), InvalidRequest, "top_p"),
        (ask([1], top_k=-1), InvalidRequest, "top_k"),
        (ask([1], seed=-1), InvalidRequest, "seed"),
    ],
)
def test_refusals(sampler, request_, error, field):
    with pytest.raises(error) as caught:
        sampler.generate([request_])
    assert caught.value.field == field
