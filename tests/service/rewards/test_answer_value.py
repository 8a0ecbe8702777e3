"""The parts of what an answer is worth, by hand."""

import numpy as np
import pytest

from opera_service.rewards.answer_value import (
    bounded_rank,
    confirmed,
    gain,
    lift,
    reflected,
    relevance,
    shortfall,
    surprise,
)


def test_a_token_weighs_its_surprise_and_none_weighs_everything():
    weights = surprise(np.array([0.0, -1.0, -4.0, -30.0]), 5.0)
    assert weights == pytest.approx([1e-3, 1, 4, 5])


def test_how_a_long_reference_opens_weighs_nothing():
    assert surprise(np.full(12, -3.0), 5.0) == pytest.approx(3.0)
    assert surprise(np.full(13, -3.0), 5.0)[:2] == pytest.approx([1e-3, 3.0])


def test_a_gain_is_the_weighted_mean_of_clipped_changes():
    initial = np.array([-1.0, -4.0, -10.0])
    after = np.array([-1.5, -2.0, -1.0])
    weights = surprise(initial, 5.0)
    assert gain(after, initial, weights, 5.0, 1.0) == pytest.approx((1 * -0.5 + 4 * 2.0 + 5 * 5.0) / 10)
    assert gain(after, initial, weights, 5.0, 0.7) == pytest.approx((0.7 * -0.5 + 4 * 2.0 + 5 * 5.0) / 10)


def test_the_lift_of_a_word_is_diluted():
    assert lift(np.array([-0.5]), np.array([-2.5]), 5.0, 20.0) == pytest.approx(2 / 21)
    assert lift(np.full(200, -1.0), np.full(200, -2.0), 5.0, 20.0) == pytest.approx(200 / 220)
    assert lift(np.zeros(0), np.zeros(0), 5.0, 20.0) == 0


@pytest.mark.parametrize(
    ("main", "value", "total"),
    [(1.0, 0.2, 1.2), (1.0, 9.0, 1.5), (1.0, -2.0, -1.0), (0.0, 3.0, 0.0), (-1.0, 3.0, -1.0)],
)
def test_a_confirmation_adds_at_most_its_share(main, value, total):
    assert confirmed(main, [(value, 0.5)]) == pytest.approx(total)


def test_the_empty_response_is_everybodys_peer():
    ranks = bounded_rank(np.array([0.0, 0.0]), 0.5)
    assert ranks == pytest.approx([0.5, 0.5])
    bad = bounded_rank(np.array([-5.0, -5.0]), 0.5)
    assert bad == pytest.approx([0.25, 0.25], abs=1e-4)
    assert bounded_rank(np.array([1.0]), 0.5) == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_reflecting_wins_what_rises_above_everything_else():
    levels = np.array([0.0, -0.5, 0.6, 0.8])
    unmarked = np.array([-np.inf, 0.2, 0.1])
    reflective = np.array([False, True, True])
    assert reflected(levels, unmarked, reflective, -np.inf) == pytest.approx([0, 0.4, 0.2])
    assert reflected(levels, unmarked, reflective, 0.7) == pytest.approx([0, 0, 0.1])


def test_relevance_is_what_the_prompt_adds_to_the_answers_own_tokens():
    asked, unasked = np.array([-1.0, -2.0, -1.0]), np.array([-3.0, -3.0, -9.0])
    own = np.array([True, True, True])
    assert relevance(asked, unasked, own, clip=5, padding=0) == pytest.approx((2 + 1 + 5) / 3)
    assert relevance(asked, unasked, own, clip=5, padding=5) == pytest.approx((2 + 1 + 5) / 8)
    # What the prompt itself says counts at most twice what is new, and nothing where nothing is.
    assert relevance(asked, unasked, np.array([False, True, False]), clip=5, padding=0) == pytest.approx(1.0)
    assert relevance(asked, unasked, ~own, clip=5, padding=0) == 0
    assert relevance(np.zeros(0), np.zeros(0), own[:0], clip=5, padding=20) == 0


def test_copied_words_that_the_prompt_makes_less_likely_count_in_full():
    asked, unasked = np.array([-4.0, -1.0]), np.array([-1.0, -2.0])
    assert relevance(asked, unasked, np.array([False, True]), clip=5, padding=0) == pytest.approx((1 - 3) / 2)


def test_an_answer_falls_short_until_prompt_or_reference_explain_it():
    assert shortfall(0.0, 0.0, 0.2) == 0.2
    assert shortfall(-3.0, -3.0, 0.2) == 0.2
    assert shortfall(0.15, 0.0, 0.2) == pytest.approx(0.05)
    assert shortfall(0.1, 0.1, 0.2) == pytest.approx(0.05)
    assert shortfall(0.0, 0.4, 0.2) == 0
    assert shortfall(0.3, -1.0, 0.2) == 0
