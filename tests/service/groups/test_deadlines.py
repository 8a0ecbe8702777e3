"""The heap of waits: order, and no memory of those that ended."""

from hypothesis import given
from hypothesis import strategies as st

from opera_service.groups.deadlines import Deadlines
from opera_service.groups.group import Group, Member, Waiter

from .conftest import key

GROUP = Group[str, str](key(), 1, "partial", {}, 0.0)


def waiter(deadline: float) -> Waiter[str, str]:
    return Waiter(GROUP, Member("a", b"", 1, "a"), deadline, lambda _: None)


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans())), st.integers(0, 20))
def test_due_are_the_waiting_tickets_up_to_now_earliest_first(entries, now):
    deadlines = Deadlines[str, str]()
    waiters = [waiter(float(when)) for when, _ in entries]
    for one, (_, done) in zip(waiters, entries, strict=True):
        deadlines.push(one)
        one.done = done
    waiting = sorted(one.deadline for one in waiters if not one.done)
    assert deadlines.next == (waiting[0] if waiting else None)
    assert [one.deadline for one in deadlines.pop_due(now)] == [when for when in waiting if when <= now]
    rest = [when for when in waiting if when > now]
    assert deadlines.next == (rest[0] if rest else None)


def test_answered_tickets_with_far_deadlines_do_not_pile_up():
    deadlines = Deadlines[str, str]()
    kept = [waiter(1e6 + number) for number in range(100)]
    for one in kept:
        deadlines.push(one)
    for number in range(10_000):
        one = waiter(2e6 + number)
        deadlines.push(one)
        one.done = True
    assert len(deadlines) < 300
    assert deadlines.pop_due(1.5e6) == kept
