"""Who may join the queue: a fake clock, no asyncio, no engine."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.errors import Overloaded, TooManyTokens
from opera_service.scoring.admission import QueueLimits, Reservation
from opera_service.scoring.fair_queue import Work

from .house import House, refused


def test_requests_up_to_the_limit():
    house = House(requests=2)
    house.ask(1), house.ask(1)
    error = refused(house, 1)
    assert (error.reason, error.status, error.retryable) == ("queue_requests", 429, True)
    assert "come back in" in error.message
    house.compute()
    house.ask(1)


def test_one_request_at_a_time():
    house = House(requests=1)
    house.ask(1)
    assert refused(house, 1).reason == "queue_requests"
    house.compute()
    house.ask(1)


def test_tokens_up_to_the_limit():
    house = House(tokens=10)
    house.ask(6), house.ask(4)
    assert refused(house, 1).reason == "queue_tokens"
    house.compute()
    house.ask(10)


def test_one_token_at_a_time():
    house = House(tokens=1)
    house.ask(1)
    assert refused(house, 1).reason == "queue_tokens"
    house.compute()
    house.ask(1)
    house.compute()
    with pytest.raises(TooManyTokens) as raised:
        house.ask(2)
    assert (raised.value.status, raised.value.retryable) == (413, False)


def test_limits_of_nothing_are_refused():
    for limits in ({"max_requests": 0}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            QueueLimits(**limits)


def test_what_can_never_fit_is_told_so_for_good():
    house = House(tokens=100)
    with pytest.raises(TooManyTokens, match="--max-queue-tokens") as raised:
        house.ask(101)
    assert not raised.value.retryable
    assert house.admission.held == (0, 0)


def test_a_place_counts_from_before_its_trees_are_known():
    house = House(requests=2, tokens=100)
    reservation = house.admission.enter("", 60, None)
    assert house.admission.held == (1, 60)
    assert refused(house, 50).reason == "queue_tokens"
    house.admission.leave(reservation)
    assert house.admission.held == (0, 0)
    house.ask(50)


def test_the_estimate_gives_way_to_the_count():
    house = House(tokens=100)
    reservation = house.admission.enter("", 10, None)
    house.bring(reservation, 90)
    assert house.admission.held == (1, 90)
    other = house.admission.enter("", 5, None)
    with pytest.raises(Overloaded):
        house.bring(other, 20)
    assert house.admission.held == (1, 90), "a refused request leaves nothing behind"


def test_an_estimate_beyond_the_limit_is_no_reason_to_refuse():
    """Only the trees say how many distinct tokens there are."""
    house = House(tokens=10)
    house.bring(house.admission.enter("", 1000, None), 10)


def test_what_is_known_already_needs_no_room():
    house = House(requests=2, tokens=10)
    house.ask(5)
    reservation = house.admission.enter("", 5, None)
    house.admission.weigh(reservation, 0, None)


# --- when to come back ------------------------------------------------------------------------------------


def test_the_wait_is_what_must_drain_over_the_measured_rate():
    house = House(tokens=1000, budget=100, rate=10.0)
    house.ask(100)
    house.compute()
    assert house.admission.rate == pytest.approx(10.0)
    house.ask(900)
    assert refused(house, 400).retry_after == 30.0  # 300 tokens too many, 10 a second


def test_the_rate_follows_the_engine():
    house = House(rate=10.0)
    for rate, expected in ((10.0, 10.0), (1.0, 1.0)):
        house.rate = rate
        for _ in range(200):
            house.ask(10)
            house.compute()
        assert house.admission.rate == pytest.approx(expected, rel=0.05)


def test_failed_batches_say_nothing_about_the_rate():
    house = House(rate=10.0)
    house.ask(10)
    house.compute()
    house.admission.started([Work(1000)])
    house.now += 0.001
    house.admission.finished(well=False)
    assert house.admission.rate == pytest.approx(10.0)


def test_a_batch_that_takes_long_counts_before_it_ends():
    house = House(rate=10.0)
    house.ask(10)
    house.compute()
    house.admission.started([Work(10)])
    house.now += 1.0
    assert house.admission.rate == pytest.approx(10.0), "in time so far"
    house.now += 100.0
    assert house.admission.rate < 1.0


def test_without_a_measurement_callers_are_asked_to_wait_a_second():
    house = House(tokens=10)
    house.ask(10)
    assert house.admission.rate is None
    assert refused(house, 10).retry_after == 1.0


def test_nobody_is_sent_away_for_more_than_a_minute():
    house = House(tokens=1000, rate=0.1)
    house.ask(1)
    house.compute()
    house.ask(1000)
    assert refused(house, 1000).retry_after == 60.0


def test_those_sent_away_come_back_one_after_the_other():
    house = House(tokens=100, rate=10.0)
    house.ask(100)
    house.compute()
    house.ask(100)
    waits = [refused(house, 50).retry_after for _ in range(4)]
    assert waits == [5.0, 10.0, 15.0, 20.0]
    house.now += 20.0  # all of those are back, or will not be
    assert refused(house, 50).retry_after == 5.0


def test_who_came_back_does_not_make_the_others_forgotten():
    house = House(tokens=100, rate=10.0)
    house.ask(100)
    house.compute()
    house.ask(100)
    assert [refused(house, 50).retry_after for _ in range(3)] == [5.0, 10.0, 15.0]
    house.compute()  # 10 seconds later the first two are back
    house.ask(50), house.ask(50)
    assert refused(house, 50).retry_after == 10.0, "the third comes before"


def test_a_run_that_does_not_wait_as_told_makes_only_itself_wait():
    house = House(tokens=100, rate=10.0)
    house.ask(100, "hasty")
    house.compute()
    house.ask(100, "hasty")
    for _ in range(50):
        refused(house, 50, "hasty")
    assert refused(house, 50, "hasty").retry_after == 60.0
    assert refused(house, 50, "patient").retry_after == 5.0


def test_callers_that_wait_as_told_are_let_in_the_first_time():
    """However many are sent away in one burst: a stampede becomes a queue outside."""
    house = House(tokens=100, budget=50, rate=10.0)
    house.ask(50)
    house.compute()
    coming: list[tuple[float, int]] = [(0.0, number) for number in range(12)]
    refusals = 0
    first_time: dict[int, bool] = {}
    while coming or len(house.queue):
        for when, number in sorted(coming):
            if when <= house.now:
                coming.remove((when, number))
                try:
                    house.ask(50)
                    first_time.setdefault(number, True)
                except Overloaded as error:
                    refusals += 1
                    coming.append((house.now + error.retry_after, number))
        if len(house.queue):
            house.compute()
        elif coming:
            house.now = min(when for when, _ in coming)
    assert len(first_time) == 12
    assert refusals == 10, "10 did not fit at first"


# --- deadlines --------------------------------------------------------------------------------------------


def test_work_that_would_be_late_is_refused_at_once():
    house = House(rate=10.0, budget=10)
    house.ask(10)
    house.compute()
    for _ in range(10):
        house.ask(10)
    assert refused(house, 10, deadline=house.now + 5.0).reason == "deadline"
    house.ask(10, deadline=house.now + 20.0)
    house.ask(10)


def test_another_run_s_backlog_is_no_reason_to_be_late():
    house = House(rate=10.0, budget=10, tokens=10_000)
    house.ask(10)
    house.compute()
    for _ in range(500):
        house.ask(10, "greedy")
    house.ask(10, "modest", deadline=house.now + 5.0)
    batch = [work for _ in range(3) for work in house.compute()]
    assert "modest" in [work.run for work in batch]


def test_an_idle_engine_tries_whatever_the_deadline():
    house = House(rate=10.0)
    house.ask(10)
    house.compute()
    house.ask(500, deadline=house.now + 1.0)


def test_without_a_measurement_no_deadline_is_doubted():
    house = House()
    house.ask(900)
    house.ask(10, deadline=house.now + 0.001)


# --- whatever happens -------------------------------------------------------------------------------------

asks = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("abc"), st.integers(1, 40), st.integers(1, 40)),
        st.tuples(st.just("enter"), st.sampled_from("abc"), st.integers(1, 40), st.just(0)),
        st.tuples(st.just("leave"), st.just(""), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("compute"), st.just(""), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.integers(0, 5), st.just(0)),
    ),
    max_size=80,
)


@given(asks, st.integers(1, 5), st.integers(1, 60), st.integers(1, 30))
def test_the_limits_hold_and_an_empty_house_lets_everybody_in(
    script: list[tuple[str, str, int, int]], requests: int, tokens: int, budget: int
):
    house = House(requests=requests, tokens=tokens, budget=budget)
    entered: list[Reservation] = []
    waits: list[float] = []
    for kind, run, number, real in script:
        if kind == "ask":
            try:
                house.bring(house.admission.enter(run, number, None), real)
            except TooManyTokens:
                assert real > tokens
            except Overloaded as error:
                waits.append(error.retry_after)
        elif kind == "enter":
            with suppress(Overloaded):
                entered.append(house.admission.enter(run, number, None))
        elif kind == "leave" and entered:
            house.admission.leave(entered.pop(number % len(entered)))
        elif kind == "compute":
            house.compute()
        elif kind == "wait":
            house.now += number
        assert house.queue.requests <= house.admission.held.requests <= requests
        assert house.queue.tokens <= house.admission.held.tokens <= tokens
    assert all(1 <= wait <= 60 and wait == int(wait) for wait in waits)
    for reservation in entered:
        house.admission.leave(reservation)
    while house.compute():
        pass
    assert house.admission.held == (0, 0)
    house.ask(tokens, "newcomer")


def test_who_waited_longer_than_told_is_owed_nothing():
    house = House(tokens=100, budget=10, rate=10.0)
    house.ask(10)
    house.compute()
    for _ in range(10):
        house.ask(10)
    assert refused(house, 11, "late").retry_after == 2.0, "1.1 s"
    house.now += 2.5
    assert refused(house, 11, "late").retry_after == 2.0
