"""The batching policy: a fake clock, no asyncio, no engine."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.scoring.fair_queue import FairQueue, Work


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def queue_of(*works: Work, budget: int, now: float = 0.0) -> FairQueue[Work]:
    queue = FairQueue[Work](budget, Clock(now))
    for work in works:
        queue.push(work)
    return queue


def batches(queue: FairQueue[Work]) -> list[list[Work]]:
    """Everything that is served from now on."""
    found = []
    while batch := queue.take().batch:
        found.append(batch)
    return found


def test_an_empty_queue_gives_nothing():
    taken = queue_of(budget=10).take()
    assert (taken.batch, taken.expired) == ([], [])


def test_fills_the_budget_exactly_and_keeps_the_order():
    a, b, c = Work(4), Work(6), Work(1)
    queue = queue_of(a, b, c, budget=10)
    assert batches(queue) == [[a, b], [c]]
    assert len(queue) == 0


def test_nothing_of_a_run_overtakes_a_tree_that_does_not_fit():
    a, big, small = Work(4), Work(7), Work(1)
    assert batches(queue_of(a, big, small, budget=10)) == [[a], [big, small]]


def test_an_oversized_tree_goes_alone():
    before, huge, after = Work(1), Work(100), Work(1)
    assert batches(queue_of(before, huge, after, budget=10)) == [[before], [huge], [after]]


def test_a_budget_of_one_still_serves_everything():
    works = [Work(1), Work(5), Work(1)]
    assert batches(queue_of(*works, budget=1)) == [[work] for work in works]
    with pytest.raises(ValueError, match="max_batch_tokens"):
        FairQueue[Work](0, Clock())


def test_expired_work_is_dropped_at_its_deadline_and_costs_no_budget():
    late, last_moment, fresh = Work(10, deadline=5.0), Work(5, deadline=5.1), Work(5)
    taken = queue_of(late, last_moment, fresh, budget=10, now=5.0).take()
    assert taken.expired == [late]
    assert taken.batch == [last_moment, fresh]


def test_dropped_work_is_reported_when_nothing_else_waits():
    late = Work(1, deadline=1.0)
    taken = queue_of(late, budget=10, now=1.0).take()
    assert (taken.batch, taken.expired) == ([], [late])


def test_removed_work_is_gone_at_once_wherever_it_stood():
    first, middle, last = Work(1), Work(2), Work(4)
    queue = queue_of(first, middle, last, budget=10)
    assert queue.remove(middle)
    assert not queue.remove(middle)
    assert (len(queue), queue.tokens, queue.requests) == (2, 5, 2)
    assert batches(queue) == [[first, last]]
    assert not queue.remove(first)


def test_a_request_waits_until_the_last_of_its_trees_has_left():
    request = object()
    queue = queue_of(Work(6, owner=request), Work(6, owner=request), Work(1), budget=6)
    assert (len(queue), queue.requests) == (3, 2)
    queue.take()
    assert (len(queue), queue.requests) == (2, 2)
    queue.take()
    assert (len(queue), queue.requests) == (1, 1)


def test_a_single_request_does_not_wait_for_another_run_s_backlog():
    backlog = [Work(10, run="big") for _ in range(100)]
    queue = queue_of(*backlog, budget=40)
    assert queue.take().batch == backlog[:4]
    guest = Work(10, run="small")
    queue.push(guest)
    assert guest in queue.take().batch, "it is in the very next batch"


def test_runs_share_every_batch_whatever_they_have_waiting():
    works = [Work(5, run="a") for _ in range(40)] + [Work(5, run="b") for _ in range(8)]
    shares = [Counter(work.run for work in batch) for batch in batches(queue_of(*works, budget=40))]
    assert shares[:2] == [Counter(a=4, b=4)] * 2
    assert shares[2:] == [Counter(a=8)] * 4


def test_a_run_that_was_away_has_saved_up_nothing():
    queue = queue_of(budget=40)
    for _ in range(50):  # alone, in and out
        queue.push(Work(1, run="a"))
        queue.take()
    for _ in range(40):
        queue.push(Work(5, run="b"))
        queue.push(Work(5, run="a"))
    assert Counter(work.run for work in queue.take().batch) == Counter(a=4, b=4)


def test_a_new_run_for_every_request_starves_nobody():
    """Turns go round: whoever pretends to be new each time stands behind those who wait."""
    queue = queue_of(*(Work(10, run="honest") for _ in range(10)), budget=40)
    served = 0
    for number in range(100):
        for part in range(4):
            queue.push(Work(10, run=f"fake-{number}-{part}"))
        served += sum(work.run == "honest" for work in queue.take().batch)
        if served == 10:
            break
    assert served == 10
    assert number < 60


works = st.builds(
    Work,
    tokens=st.integers(1, 20),
    deadline=st.none() | st.floats(0, 10),
    run=st.sampled_from("abc"),
)


@given(st.lists(works, max_size=30), st.integers(1, 30), st.floats(0, 10))
def test_every_work_leaves_once_in_its_run_s_order_and_within_the_budget(
    items: list[Work], budget: int, now: float
):
    queue = queue_of(*items, budget=budget, now=now)
    live = [work for work in items if work.deadline is None or work.deadline > now]
    served: list[Work] = []
    expired: list[Work] = []
    while True:
        taken = queue.take()
        expired += taken.expired
        if not taken.batch:
            break
        assert len(taken.batch) == 1 or sum(work.tokens for work in taken.batch) <= budget
        served += taken.batch
    for run in "abc":
        assert [w for w in served if w.run == run] == [w for w in live if w.run == run]
    assert len(served) + len(expired) == len(items)
    assert {id(work) for work in [*served, *expired]} == {id(work) for work in items}


@given(st.data(), st.integers(1, 40))
def test_runs_with_work_waiting_never_drift_apart(data: st.DataObject, budget: int):
    """The bound of deficit round robin, between any two moments while both runs have work waiting."""
    queue = queue_of(budget=budget)
    largest = 12
    sizes = st.integers(1, largest)
    sent: Counter[str] = Counter()
    history: list[Counter[str]] = []
    for run in "abc":
        for _ in range(20):
            queue.push(Work(data.draw(sizes), run=run))
    while queue.runs == 3:
        history.append(sent.copy())
        for work in queue.take().batch:
            sent[work.run] += work.tokens
    for early in range(len(history)):
        for late in range(early, len(history)):
            gained = [history[late][run] - history[early][run] for run in "abc"]
            assert max(gained) - min(gained) <= queue.quantum + 2 * largest


steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 20), st.sampled_from("abcd"), st.none() | st.floats(0, 5)),
        st.tuples(st.just("take")),
        st.tuples(st.just("remove"), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.floats(0, 2)),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 30))
def test_the_counts_are_those_of_what_waits(script: list[tuple], budget: int):
    clock = Clock()
    queue = FairQueue[Work](budget, clock)
    waiting: list[Work] = []
    for kind, *details in script:
        if kind == "push":
            tokens, run, deadline = details
            waiting.append(Work(tokens, deadline, run, owner=tokens % 3 or None))
            queue.push(waiting[-1])
        elif kind == "take":
            taken = queue.take()
            assert bool(taken.batch) == any(w.deadline is None or w.deadline > clock.now for w in waiting)
            for work in [*taken.batch, *taken.expired]:
                waiting.remove(work)  # raises for what was served before
        elif kind == "remove" and waiting:
            gone = waiting.pop(details[0] % len(waiting))
            assert queue.remove(gone)
        elif kind == "wait":
            clock.now += details[0]
        assert len(queue) == len(waiting)
        assert queue.tokens == sum(work.tokens for work in waiting)
        assert queue.runs == len({work.run for work in waiting})
        assert queue.requests == len({work.owner or id(work) for work in waiting})
        for run in "abcd":
            assert queue.tokens_of(run) == sum(work.tokens for work in waiting if work.run == run)
