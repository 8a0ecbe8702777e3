"""What is asked again, when, and how long it waits; on a clock and dice that the test holds."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client._retry import Backoff, Deadline, is_retryable, parse_retry_after


@pytest.mark.parametrize("status", range(300, 600))
def test_only_the_documented_statuses_are_retried(status):
    expected = status in {408, 425, 429} or (status >= 500 and status != 501)
    assert is_retryable(status) is expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-2", 0.0),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, seconds):
    now = datetime(2026, 10, 21, 7, 28, 0, tzinfo=UTC)
    assert parse_retry_after(header, now=now) == seconds


@given(st.integers(0, 200), st.integers(0, 2**32))
def test_a_wait_is_jittered_between_nothing_and_the_capped_double(failures, seed):
    backoff = Backoff(retries=1000, base=0.5, cap=30.0, dice=random.Random(seed))
    wait = backoff.wait(failures, None)
    assert wait is not None
    assert 0.0 <= wait <= min(30.0, 0.5 * 2.0 ** min(failures, 10))


def test_the_jitter_is_full():
    backoff = Backoff(retries=9, base=1.0, cap=64.0, dice=random.Random(1))
    waits = [backoff.wait(4, None) or 0.0 for _ in range(2000)]
    assert min(waits) < 0.2
    assert max(waits) > 15.8
    assert sum(waits) / len(waits) == pytest.approx(8.0, abs=0.4)


@given(st.floats(0, 1e6), st.integers(0, 50))
def test_retry_after_is_a_lower_bound_and_does_not_use_up_retries(seconds, failures):
    wait = Backoff(retries=0, base=0.5).wait(failures, seconds)
    assert wait is not None
    assert seconds <= wait <= seconds + 0.5


def test_it_gives_up_after_its_retries():
    backoff = Backoff(retries=2)
    assert backoff.wait(1, None) is not None
    assert backoff.wait(2, None) is None


def test_a_deadline_counts_down_and_refuses_waits_beyond_it():
    now = [100.0]
    deadline = Deadline(10.0, clock=lambda: now[0])
    assert deadline.remaining == 10.0
    now[0] = 107.0
    assert deadline.remaining == 3.0
    assert deadline.allows(2.9)
    assert not deadline.allows(3.0)
    now[0] = 200.0
    assert deadline.remaining == 0.0


def test_no_deadline_allows_everything():
    assert Deadline(None).remaining is None
    assert Deadline(None).allows(1e9)


def test_callers_that_are_told_the_same_come_back_one_after_the_other():
    waits = [Backoff(dice=random.Random(seed)).wait(0, 7.0) for seed in range(200)]
    assert all(wait is not None and 7.0 <= wait <= 7.5 for wait in waits)
    assert len(set(waits)) == 200
    assert max(waits) - min(waits) > 0.4
