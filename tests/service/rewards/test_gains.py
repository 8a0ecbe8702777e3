"""Gains, records, climbs and the calibrated margin, by hand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.rewards.gains import (
    calibrated_margin,
    potential_gain,
    running_maximum_gains,
    squashed_count,
    step_gains,
)

LEVELS = np.array([-2.0, -3.0, -2.5, -1.0, -1.5, -0.5])


def test_steps_and_records():
    assert step_gains(LEVELS).tolist() == [-1, 0.5, 1.5, -0.5, 1]
    assert running_maximum_gains(LEVELS).tolist() == [-1, -0.5, 1, -0.5, 0.5]
    assert step_gains(LEVELS[:1]).tolist() == running_maximum_gains(LEVELS[:1]).tolist() == []


def test_squashed_count():
    assert squashed_count(np.array([True, False, True]), 2.0) == pytest.approx(np.tanh(1))
    assert squashed_count(np.array([], dtype=bool), 2.0) == 0


def test_a_climb_by_hand():
    credited = np.array([True, True, True, True, False])
    q = np.exp(LEVELS / 2)
    # Only the fourth level is a credited record; the end is a record too, but not credited.
    assert potential_gain(LEVELS, credited, 0.0, 2.0) == pytest.approx(q[5] * (q[3] - q[0]))


def test_a_climb_stops_at_the_ceiling():
    all_of_them = np.ones(5, dtype=bool)
    assert potential_gain(LEVELS, all_of_them, -1.0, 1.0) == pytest.approx(1 - np.exp(-1.0))
    assert potential_gain(LEVELS, all_of_them, -2.0, 1.0) == 0
    assert potential_gain(LEVELS, all_of_them, -np.inf, 1.0) == 0


@given(
    st.lists(st.floats(-50, 0), min_size=2, max_size=8), st.floats(-20, 0), st.floats(0.5, 20), st.integers(1, 5)
)
def test_a_climb_is_a_share_and_splitting_does_not_change_it(levels, ceiling, temperature, pieces):
    levels = np.sort(np.array(levels))
    split = np.unique(np.concatenate([np.linspace(low, high, pieces + 1) for low, high in pairwise(levels)]))
    whole = potential_gain(levels, np.ones(len(levels) - 1, dtype=bool), ceiling, temperature)
    assert 0 <= whole <= 1
    assert potential_gain(split, np.ones(len(split) - 1, dtype=bool), ceiling, temperature) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("gains", "margin"),
    [
        ([0.1, 0.3], 0.2 + 2 * np.sqrt(0.02)),
        ([0.1, 0.2, 0.3, 0.4], 0.25 + 2 * np.sqrt(0.05 / 3)),
        ([-0.1, -0.3], -0.2 + 2 * np.sqrt(0.02)),  # a wide spread around a loss still reaches above zero
        ([-0.5, -0.5], 0.02),  # the floor
        ([0.2], 0.2),
        ([-0.2], 0.05),
        ([], 0.05),
    ],
)
def test_margins(gains, margin):
    assert calibrated_margin(gains, floor=0.02, fallback=0.05) == pytest.approx(margin)
