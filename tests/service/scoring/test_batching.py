"""The batching policy: a fake clock, no asyncio, no engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.scoring.batching import BatchQueue, Work


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def queue_of(*works: Work, budget: int, now: float = 0.0) -> BatchQueue[Work]:
    queue = BatchQueue[Work](budget, Clock(now))
    for work in works:
        queue.push(work)
    return queue


def test_an_empty_queue_gives_nothing():
    taken = queue_of(budget=10).take()
    assert (taken.batch, taken.expired, taken.abandoned) == ([], [], [])


def test_fills_the_budget_exactly_and_keeps_the_order():
    a, b, c = Work(4), Work(6), Work(1)
    queue = queue_of(a, b, c, budget=10)
    assert queue.take().batch == [a, b]
    assert queue.take().batch == [c]
    assert len(queue) == 0


def test_nothing_overtakes_a_tree_that_does_not_fit():
    a, big, small = Work(4), Work(7), Work(1)
    queue = queue_of(a, big, small, budget=10)
    assert queue.take().batch == [a]
    assert queue.take().batch == [big, small]


def test_an_oversized_tree_goes_alone():
    before, huge, after = Work(1), Work(100), Work(1)
    queue = queue_of(before, huge, after, budget=10)
    assert [queue.take().batch for _ in range(3)] == [[before], [huge], [after]]


def test_a_budget_of_one_still_serves_everything():
    works = [Work(1), Work(5), Work(1)]
    queue = queue_of(*works, budget=1)
    assert [queue.take().batch for _ in range(3)] == [[work] for work in works]
    with pytest.raises(ValueError, match="max_batch_tokens"):
        BatchQueue[Work](0, Clock())


def test_expired_work_is_dropped_at_its_deadline_and_costs_no_budget():
    late, last_moment, fresh = Work(10, deadline=5.0), Work(5, deadline=5.1), Work(5)
    taken = queue_of(late, last_moment, fresh, budget=10, now=5.0).take()
    assert taken.expired == [late]
    assert taken.batch == [last_moment, fresh]


def test_abandoned_work_is_dropped_even_when_it_is_expired_too():
    gone, kept = Work(10, deadline=1.0), Work(10)
    queue = queue_of(gone, kept, budget=10, now=2.0)
    gone.closed = True
    assert (len(queue), queue.tokens) == (1, 10)
    taken = queue.take()
    assert (taken.abandoned, taken.expired, taken.batch) == ([gone], [], [kept])


def test_dropped_work_is_reported_when_nothing_else_waits():
    late = Work(1, deadline=1.0)
    taken = queue_of(late, budget=10, now=1.0).take()
    assert (taken.batch, taken.expired) == ([], [late])


works = st.builds(
    Work,
    tokens=st.integers(1, 20),
    deadline=st.none() | st.floats(0, 10),
    closed=st.booleans(),
)


@given(st.lists(works, max_size=30), st.integers(1, 30), st.floats(0, 10))
def test_every_work_leaves_once_in_order_and_within_the_budget(items: list[Work], budget: int, now: float):
    queue = queue_of(*items, budget=budget, now=now)
    live = [work for work in items if not work.closed and (work.deadline is None or work.deadline > now)]
    served: list[Work] = []
    dropped = 0
    while True:
        taken = queue.take()
        dropped += len(taken.expired) + len(taken.abandoned)
        if not taken.batch:
            break
        assert len(taken.batch) == 1 or sum(work.tokens for work in taken.batch) <= budget
        served += taken.batch
    assert served == live
    assert dropped == len(items) - len(live)
