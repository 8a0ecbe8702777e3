"""Comparing members of a group, with scipy as the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.stats import rankdata

from opera_service.rewards.ranks import (
    auto_temperature,
    best_peer,
    hard_rank,
    relative_likelihood,
    soft_rank,
    spread_is_noise,
)

values = st.lists(st.integers(-30, 0), min_size=2, max_size=9).map(lambda found: np.array(found, float))


@given(values)
def test_hard_ranks(values):
    scale = len(values) - 1
    assert hard_rank(values, "low") == pytest.approx((rankdata(values, "min") - 1) / scale)
    assert hard_rank(values, "average") == pytest.approx((rankdata(values, "average") - 1) / scale)


@given(values, st.floats(0.1, 10))
def test_soft_ranks(values, temperature):
    peers = [np.delete(values, index) for index in range(len(values))]
    expected = [expit((own - others) / temperature).mean() for own, others in zip(values, peers, strict=True)]
    assert soft_rank(values, temperature) == pytest.approx(expected)


@given(values)
def test_the_best_peer_is_the_best_of_the_others(values):
    assert best_peer(values).tolist() == [np.delete(values, index).max() for index in range(len(values))]


def test_alone_there_is_no_peer():
    assert best_peer(np.array([-3.0])).tolist() == [-np.inf]


@given(values)
def test_relative_likelihood_is_the_responsibility_over_the_largest(values):
    responsibilities = softmax(values)
    assert relative_likelihood(values, 1.0) == pytest.approx(responsibilities / responsibilities.max())


@pytest.mark.parametrize(("tokens", "nats"), [(1, 1.0), (8, 1.0), (9, np.sqrt(9 / 8)), (512, 8.0)])
def test_auto_temperature(tokens, nats):
    assert auto_temperature(tokens) == pytest.approx(nats)


def test_a_spread_is_noise_below_margin_times_root_tokens():
    prices = np.array([-3.0, -3.0625])
    assert spread_is_noise(prices, 0.02, 16)
    assert not spread_is_noise(prices, 0.015625, 16)  # exactly at the margin: information
    assert not spread_is_noise(np.zeros(3), 0.0, 16)  # `paper` ranks even equal prices
    assert spread_is_noise(np.zeros(1), 0.0, 16)
