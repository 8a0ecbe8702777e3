"""The dummy engine against the table, worked out here by hand and in exact fractions."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from opera_service.engines.base import GenerationRequest
from opera_service.engines.dummy import DummyEngine, weights
from opera_service.scoring.tree import ROOT, TreeBuilder, as_ids

VOCAB = 5


def probability(a: int, b: int) -> Fraction:
    """p(b | a), straight from the engine's documentation."""
    table = [1 + ((a + 1) * (c + 1)) % 13 for c in range(VOCAB)]
    return Fraction(table[b], sum(table))


def test_the_table_by_hand():
    # After token 2: 3, 6, 9, 12, 15 modulo 13 is 3, 6, 9, 12, 2; plus one: 4, 7, 10, 13, 3; their sum is 37.
    assert weights(2, VOCAB).tolist() == [4, 7, 10, 13, 3]
    assert probability(2, 3) == Fraction(13, 37)
    assert weights(12, VOCAB).tolist() == [1] * VOCAB


async def test_scores_follow_the_table():
    builder = TreeBuilder()
    prompt = builder.extend(ROOT, [4, 2])
    builder.score(prompt, [3, 0, 1])
    builder.score(builder.extend(prompt, [1]), [3])
    (scores,) = await DummyEngine(VOCAB).score([builder.build()])
    assert scores.of(0).tolist() == pytest.approx(
        [math.log(probability(*pair)) for pair in [(2, 3), (3, 0), (0, 1)]]
    )
    assert scores.of(1).tolist() == pytest.approx([math.log(probability(1, 3))])
    assert scores.logprobs.dtype == np.float64
    assert scores.tokens_computed == 5


async def test_entropies_and_most_likely_tokens():
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [2]), [0])
    (scores,) = await DummyEngine(VOCAB).score([builder.build(want_entropy=True, want_top=3)])
    row = [probability(2, b) for b in range(VOCAB)]
    assert scores.entropies_of(0).tolist() == pytest.approx([-sum(p * math.log(p) for p in row)])
    assert scores.top_ids.tolist() == [[3, 2, 1]]
    assert scores.top_logprobs[0].tolist() == pytest.approx([math.log(row[b]) for b in (3, 2, 1)])


def request(**changes) -> GenerationRequest:
    return GenerationRequest(prompt_ids=as_ids([2]), **{"max_tokens": 4, "seed": 1, **changes})


async def test_greedy_generation_follows_the_largest_weights():
    engine = DummyEngine(VOCAB)
    ((greedy,),) = await engine.generate([request(temperature=0)])
    path = [2]
    for _ in range(4):
        path.append(max(range(VOCAB), key=lambda b: probability(path[-1], b)))
    assert greedy.token_ids.tolist() == path[1:]
    assert greedy.finish_reason == "length"
    ((narrow,),) = await engine.generate([request(top_k=1)])
    ((nucleus,),) = await engine.generate([request(top_p=0.01)])
    assert narrow.token_ids.tolist() == nucleus.token_ids.tolist() == path[1:]


async def test_sampling_is_seeded_and_the_continuations_differ():
    engine = DummyEngine(VOCAB)
    (first,) = await engine.generate([request(n=2, max_tokens=30)])
    (again,) = await engine.generate([request(n=2, max_tokens=30)])
    assert [one.token_ids.tolist() for one in first] == [one.token_ids.tolist() for one in again]
    assert first[0].token_ids.tolist() != first[1].token_ids.tolist()


async def test_sampled_frequencies_follow_the_table():
    (draws,) = await DummyEngine(VOCAB).generate([request(n=4000, max_tokens=1)])
    counts = np.bincount([one.token_ids[0] for one in draws], minlength=VOCAB) / 4000
    assert counts.tolist() == pytest.approx([float(probability(2, b)) for b in range(VOCAB)], abs=0.03)


async def test_nucleus_keeps_the_smallest_set_that_reaches_top_p():
    # After token 2 the probabilities are 13, 10, 7, 4, 3 of 37: the first two reach 0.6, one alone does not.
    (draws,) = await DummyEngine(VOCAB).generate([request(n=200, max_tokens=1, top_p=0.6)])
    assert {int(one.token_ids[0]) for one in draws} == {3, 2}


async def test_generation_keeps_the_stop_id_and_ends_there():
    ((stopped,),) = await DummyEngine(VOCAB).generate([request(temperature=0, stop_ids=(3,))])
    assert (stopped.token_ids.tolist(), stopped.finish_reason) == ([3], "stop")


async def test_generation_ends_when_the_caller_has_enough():
    asked = GenerationRequest(as_ids([3]), max_tokens=20, seed=1)
    ((whole,),) = await DummyEngine(VOCAB).generate([asked])
    ((one,),) = await DummyEngine(VOCAB).generate([replace(asked, enough=lambda ids: len(ids) == 4)])
    assert one.token_ids.tolist() == whole.token_ids.tolist()[:4]
    assert (one.finish_reason, whole.finish_reason) == ("enough", "length")
    assert one.weight_version == "0"
