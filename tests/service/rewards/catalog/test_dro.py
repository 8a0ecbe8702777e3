"""R3 by its formula, written again in plain Python."""

from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opera_service.rewards.catalog.dro import propagated, reflective
from opera_service.rewards.final_likelihood import ReferenceLikelihoods
from opera_service.rewards.registry import resolve

TABLES = st.integers(1, 4).flatmap(
    lambda tokens: st.tuples(
        st.lists(st.lists(st.floats(-8, -0.01), min_size=tokens, max_size=tokens), min_size=1, max_size=5),
        st.lists(st.floats(-8, -0.01), min_size=tokens, max_size=tokens),
    )
)


def priced(finals, empty, valid=None, answers=None):
    count = len(finals)
    return ReferenceLikelihoods(
        finals=tuple(map(np.array, finals)),
        empty=np.array(empty),
        valid=np.ones(count, dtype=bool) if valid is None else np.array(valid),
        thought_tokens=np.ones(count, dtype=np.int64),
        answer_tokens=np.full(count, len(empty)) if answers is None else np.array(answers),
    )


def rewards(likelihoods, preset="paper", **config):
    return [one.reward for one in resolve("dro", preset, config).shaped_values(likelihoods)]


def by_hand(finals, empty):
    count, tokens = len(finals), len(empty)
    sigma = []
    for j in range(tokens):
        column = [one[j] for one in finals]
        mean = sum(column) / count
        sigma.append(sqrt(sum((value - mean) ** 2 for value in column) / count))
    total = sum(sigma)
    weights = [value / total if total > 0 else 1 / tokens for value in sigma]
    return [sum(w * (a - b) for w, a, b in zip(weights, one, empty, strict=True)) for one in finals]


@given(table=TABLES)
def test_it_is_the_weighted_gain_over_an_empty_thought(table):
    finals, empty = table
    assert rewards(priced(finals, empty), length=0.0) == pytest.approx(by_hand(finals, empty), abs=1e-9)


@given(table=TABLES)
def test_tokens_on_which_all_agree_say_nothing(table):
    finals, empty = table
    longer = [[*one, -1.5] for one in finals]
    if max(np.std(finals, axis=0)) > 1e-6:
        assert rewards(priced(longer, [*empty, -3.0]), length=0.0) == pytest.approx(
            rewards(priced(finals, empty), length=0.0), abs=1e-6
        )


@example(table=([[-1.40953088241812, -2.0]] * 3, [-1.0, -1.0]), shift=-2.0)  # equal but for a rounded mean
@given(table=TABLES, shift=st.floats(-3, 3))
def test_members_may_come_in_any_order_and_a_shift_of_all_is_a_shift_of_the_reward(table, shift):
    finals, empty = table
    plain = rewards(priced(finals, empty), length=0.0)
    assert rewards(priced(finals[::-1], empty), length=0.0) == pytest.approx(plain[::-1], abs=1e-9)
    shifted = [[value + shift for value in one] for one in finals]
    assert rewards(priced(shifted, empty), length=0.0) == pytest.approx([one + shift for one in plain], abs=1e-6)


def test_doubt_about_a_reflective_token_lasts_for_a_while():
    logprobs, gamma = np.log([0.9, 0.2, 0.8, 0.7]), 0.5
    found = propagated(logprobs, np.array([1]), gamma)
    expected = [0, 0, *(log(0.2 + 0.8 * (1 - exp(-gamma * d))) for d in (1, 2))]
    assert found == pytest.approx(expected)
    # With every weight on the third token: log(p_3 · P_2(3)), as in the paper.
    finals = [logprobs, np.log([0.9, 0.2, 0.1, 0.7])]
    sigma = np.std(finals, axis=0)
    assert reflective(sigma, 0.25).tolist() == [2]
    (first, _) = rewards(priced(finals, logprobs), length=0.0, correction="propagation", reflective_share=0.25)
    assert first == pytest.approx(log(0.8))


@given(logprob=st.floats(-20, -1e-6), gamma=st.floats(0.01, 3))
def test_propagation_only_lowers_and_fades(logprob, gamma):
    found = propagated(np.array([logprob, *[-1.0] * 20]), np.array([0]), gamma)
    assert found[0] == 0
    assert (found[1:] <= 0).all()
    assert (np.diff(found[1:]) >= -1e-12).all()


def test_the_length_term_counts_the_answer_alone():
    likelihoods = priced([[-1.0, -1.0]] * 3, [-1.0, -1.0], answers=[2, 4, 1])
    assert rewards(likelihoods, length=1.0) == pytest.approx([1, 0, 0.5])


def test_hardened_is_silent_about_noise_and_deaf_to_the_malformed():
    noise = priced([[-1.0, -2.0], [-1.01, -2.0]], [-1.5, -2.0])
    found = resolve("dro", "hardened", {}).shaped_values(noise)
    assert {one.flags for one in found} == {("no_spread",)}
    assert found[0].reward == found[1].reward
    broken = priced([[-1.0, -9.0], [-1.0, -1.0], [-2.0, -1.0]], [-3.0, -3.0], valid=[False, True, True])
    assert rewards(broken, "hardened") == pytest.approx([-10, 2, 1])  # all weight on the first token


def test_the_spread_for_the_filter_is_reported(hand):
    outcome = hand.Bench().price(resolve("dro", "paper", {}), [hand.thought(-1.0), hand.thought(-3.0)])
    assert outcome.diagnostics["max_sigma"] == pytest.approx(1.0)
