"""Confidence intervals, against simulation and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from opera_trainer.intervals import mean, of_tasks, ratio, share


def test_shares_have_wilson_intervals():
    found = share(30, 40)  # Wilson, 1927, by hand: centre (30 + z²/2)/(40 + z²)
    z2 = 1.959963984540054**2
    centre = (30 + z2 / 2) / (40 + z2)
    half = 1.959963984540054 / (40 + z2) * (30 * 10 / 40 + z2 / 4) ** 0.5
    assert (found.value, found.count) == (0.75, 40)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert share(0, 0) is None
    assert share(40, 40).low < 1.0 == share(40, 40).high


def test_the_mean_of_many_has_the_normal_interval():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = mean(values.tolist(), 4000)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), rel=0.1)


def test_the_interval_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        found = mean(rng.exponential(1.0, 60).tolist(), 400)
        hits += found.low <= 1.0 <= found.high
    assert 0.86 <= hits / 200 <= 0.99


def test_a_transform_applies_to_the_interval():
    values = np.random.default_rng(3).normal(-0.5, 0.2, 100).tolist()
    plain, perplexity = mean(values, 1000), mean(values, 1000, transform=lambda lp: np.exp(-lp))
    assert perplexity.value == pytest.approx(np.exp(-plain.value))
    assert perplexity.low == pytest.approx(np.exp(-plain.high), rel=1e-3)
    assert perplexity.low < perplexity.value < perplexity.high


def test_a_share_that_never_varied_is_not_certain():
    found = mean([1.0] * 20, 100, kind="share")
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(share(20, 20).low)
    assert mean([0.0] * 20, 100, kind="share").high == pytest.approx(share(0, 20).high)
    found = mean([0.0] * 20, 100, kind="change")
    assert (found.low, found.high) == (-share(0, 20).high, share(0, 20).high)
    assert mean([2.5] * 20, 100).low == mean([0.0] * 3, 100).high + 2.5 == 2.5
    assert mean([], 100) is None


def test_ratios_weigh_tasks_by_their_wholes():
    found = ratio([1, 0, 9], [1, 0, 9], 200)
    assert (found.value, found.count) == (1.0, 2)
    found = ratio([0.0] * 50 + [10.0] * 50, [10.0] * 100, 1000)
    assert found.value == 0.5
    assert (found.low, found.high) == pytest.approx((0.4, 0.6), abs=0.03)
    assert ratio([0.0], [0.0], 100) is None


def test_any_statistic_of_tasks():
    values = np.random.default_rng(4).normal(0, 1, 200)
    found = of_tasks(lambda places: float(values[list(places)].mean()), 200, 1000)
    known = mean(values.tolist(), 1000)
    assert (found.value, found.low, found.high) == pytest.approx((known.value, known.low, known.high), abs=0.02)
    assert of_tasks(lambda _: None, 5, 10) is None
    assert of_tasks(lambda _: 1.0, 0, 10) is None
