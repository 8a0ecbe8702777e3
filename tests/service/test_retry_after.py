"""Rates and waits, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.retry_after import DrainRate, seconds_to_wait


def test_nothing_measured_is_no_rate():
    assert DrainRate().per_second() is None


def test_a_steady_drain():
    rate = DrainRate()
    for _ in range(3):
        rate.add(20.0, 2.0)
    assert rate.per_second() == pytest.approx(10.0)


def test_what_lies_a_half_life_back_counts_half():
    rate = DrainRate(half_life_s=10.0)
    rate.add(100.0, 10.0)
    rate.add(20.0, 10.0)
    assert rate.per_second() == pytest.approx((50.0 + 20.0) / (5.0 + 10.0))


def test_asking_what_if_changes_nothing():
    rate = DrainRate()
    rate.add(10.0, 1.0)
    assert rate.per_second(amount=10.0, seconds=9.0) == pytest.approx(2.0)
    assert rate.per_second() == pytest.approx(10.0)


def test_a_drain_that_took_no_time_is_no_rate():
    rate = DrainRate()
    rate.add(10.0, 0.0)
    assert rate.per_second() is None


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(1e-3, 1e3)), min_size=1, max_size=20))
def test_the_rate_lies_between_the_slowest_and_the_fastest(batches: list[tuple[float, float]]):
    rate = DrainRate()
    for amount, seconds in batches:
        rate.add(amount, seconds)
    paces = [amount / seconds for amount, seconds in batches]
    assert min(paces) * (1 - 1e-9) <= rate.per_second() <= max(paces) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("amount", "rate", "wait"),
    [
        (0, 10.0, 1),
        (10, 10.0, 1),
        (11, 10.0, 2),
        (600, 10.0, 60),
        (601, 10.0, 60),
        (5, None, 1),
        (5, 0.0, 1),
        (-5, 1.0, 1),
    ],
)
def test_waits_are_whole_seconds_within_bounds(amount: float, rate: float | None, wait: int):
    assert seconds_to_wait(amount, rate) == wait
