"""Every bound of the state, at its smallest, and what refused members may do next."""

import pytest

from opera_client.errors import EngineFailed, GroupIncomplete, InvalidRequest, MemberConflict, Overloaded
from opera_service.groups.limits import GroupLimits

from .conftest import Desk, of_run


def test_one_group_at_a_time():
    desk = Desk(GroupLimits(max_groups=1))
    desk.join("a", "g1")
    with pytest.raises(Overloaded) as raised:
        desk.join("a", "g2")
    assert (raised.value.status, raised.value.retryable) == (429, True)
    assert raised.value.retry_after > 0
    desk.join("b", "g1")
    assert desk.score() == ["complete"]
    desk.join("a", "g2")
    assert desk.state.counts.refused == 1


def test_one_member_at_a_time():
    desk = Desk(GroupLimits(max_members=1))
    desk.join("a", "g1", size=1)
    with pytest.raises(Overloaded):
        desk.join("a", "g2", size=1)
    desk.score()
    desk.join("a", "g2", size=1)
    with pytest.raises(InvalidRequest) as raised:
        desk.join("a", "g3", size=2)
    assert raised.value.field == "group_size"


def test_one_token_at_a_time():
    desk = Desk(GroupLimits(max_tokens=1))
    desk.join("a", "g1", size=1)
    with pytest.raises(Overloaded):
        desk.join("a", "g2", size=1)
    desk.score()
    desk.join("a", "g2", size=1)
    with pytest.raises(InvalidRequest):
        desk.join("a", "g3", size=1, tokens=2)


def test_a_group_that_was_let_in_can_complete():
    """Places are taken when a group opens, so that half-full groups never lock each other out."""
    desk = Desk(GroupLimits(max_members=5, max_tokens=35))
    for group in ("g1", "g2"):
        desk.join("a", group, tokens=7)
    with pytest.raises(Overloaded):
        desk.join("a", "g3", tokens=7)
    for group in ("g1", "g2"):
        desk.join("b", group, tokens=7)
    assert desk.score() == ["complete", "complete"]


def test_a_member_larger_than_expected_is_refused_only_when_it_does_not_fit():
    desk = Desk(GroupLimits(max_tokens=10))
    desk.join("a", "g1", tokens=2), desk.join("a", "g2", tokens=2)
    assert desk.state.waiting_tokens == 8
    with pytest.raises(Overloaded):
        desk.join("b", "g1", tokens=5)
    desk.join("b", "g1", tokens=4)
    assert desk.score() == ["complete"]
    assert desk.state.waiting_tokens == 4


def test_a_refused_member_leaves_nothing_behind():
    desk = Desk(GroupLimits(max_groups=1))
    desk.join("a", "g1")
    for group in ("g2", "g3"):
        with pytest.raises(Overloaded):
            desk.join("a", group)
    assert (desk.state.waiting_groups, desk.state.waiting_members, desk.state.waiting_tokens) == (1, 2, 2)


def test_retries_are_never_refused():
    desk = Desk(GroupLimits(max_groups=1, max_members=2, max_tokens=2))
    desk.join("a"), desk.join("a"), desk.join("b"), desk.join("b")
    assert desk.score() == ["complete"]


def test_one_answer_is_remembered():
    desk = Desk(GroupLimits(max_answers=1))
    desk.join("a", "g1", size=1), desk.join("a", "g2", size=1)
    desk.score()
    assert desk.state.kept_answers == 1
    with pytest.raises(MemberConflict):
        desk.join("b", "g2", size=1)
    desk.join("b", "g1", size=1)  # forgotten: the first group opens anew
    assert desk.score() == ["complete"]


def test_no_answer_is_remembered_when_told_so():
    desk = Desk(GroupLimits(max_answers=0))
    waiter = desk.join("a", size=1)
    desk.score()
    assert desk.heard[waiter] == "a of a"
    assert desk.state.kept_answers == 0


def test_answers_are_forgotten_after_their_time():
    desk = Desk(GroupLimits(keep_s=1.0))
    desk.join("a", size=1)
    desk.score()
    assert desk.state.next_event == desk.now + 1
    desk.tick(0.9)
    assert desk.state.kept_answers == 1
    desk.tick(0.1)
    assert (desk.state.kept_answers, desk.state.next_event) == (0, None)


def test_contents_are_dropped_as_soon_as_a_group_is_full_and_answered():
    desk = Desk()
    first = desk.join("a")
    assert desk.score(10) == ["partial"]
    assert first.member.content == "a"
    desk.join("b")
    assert desk.score() == ["late"]
    assert (first.member.content, first.group.shared) == (None, {})


def test_partly_answered_groups_are_forgotten_when_their_tokens_do_not_fit():
    desk = Desk(GroupLimits(max_tokens=4))
    first = desk.join("a", "g1", tokens=2)
    desk.score(10)
    assert desk.heard[first] == "a of a"
    desk.join("a", "g2", tokens=2), desk.join("b", "g2", tokens=2)
    desk.score()
    assert desk.state.kept_answers == 3  # a full group keeps no tokens
    for group in ("g3", "g4"):
        desk.join("a", group, tokens=2)
        desk.score(10)
    assert desk.state.find(first.group.key) is None
    assert desk.state.kept_answers == 4


def test_answers_are_forgotten_when_they_weigh_too_much():
    desk = Desk(GroupLimits(max_tokens=10), weigh=len)
    for group in ("g1", "g2"):
        desk.join("a", group, size=1)  # hears "a of a", which weighs 6
        desk.score()
    assert desk.state.kept_answers == 1
    desk.join("a", "g1", size=1)
    assert desk.score() == ["complete"]


def test_a_group_nobody_comes_back_for_expires():
    desk = Desk(GroupLimits(idle_s=1.0))
    waiter = desk.join("a", on_timeout="error")
    desk.tick(10)  # refused, and from now on nobody waits
    desk.tick(0.9)
    assert desk.state.waiting_groups == 1
    desk.tick(0.1)
    assert (desk.state.waiting_groups, desk.state.waiting_members, desk.state.waiting_tokens) == (0, 0, 0)
    assert (desk.state.counts.expired, desk.state.next_event) == (1, None)
    assert waiter.done


def test_a_group_somebody_waits_for_does_not_expire():
    desk = Desk(GroupLimits(idle_s=1.0))
    desk.join("a", wait_s=100.0)
    for _ in range(50):
        desk.tick(1)
    desk.join("b")
    assert desk.score() == ["complete"]
    assert desk.state.counts.expired == 0


def test_a_group_that_is_waited_for_does_not_keep_others_from_expiring():
    desk = Desk(GroupLimits(idle_s=1.0))
    desk.join("a", "patient", wait_s=100.0)
    desk.state.leave(desk.join("a", "left"))
    desk.tick(1)
    assert (desk.state.waiting_groups, desk.state.counts.expired) == (1, 1)


def test_the_time_without_callers_begins_when_the_last_one_leaves():
    desk = Desk(GroupLimits(idle_s=10.0))
    waiter = desk.join("a", wait_s=100.0)
    desk.tick(9)
    desk.state.leave(waiter)
    desk.tick(9)
    assert desk.state.waiting_groups == 1
    desk.tick(1)
    assert desk.state.waiting_groups == 0


def test_a_group_that_is_being_scored_does_not_expire():
    desk = Desk(GroupLimits(idle_s=1.0))
    waiters = [desk.join("a"), desk.join("b")]
    (batch,) = desk.tick()
    for waiter in waiters:
        desk.state.leave(waiter)
    desk.tick(50)
    desk.state.close(batch, EngineFailed("no"))
    desk.tick(0.9)
    again = desk.join("a")
    assert desk.score() == ["complete"]
    assert desk.heard[again] == "a of a b"


def test_a_caller_that_left_before_its_full_group_started_does_not_revive_an_expired_one():
    desk = Desk(GroupLimits(idle_s=1.0))
    desk.state.leave(desk.join("a", size=1))
    assert desk.tick(1) == []
    assert desk.state.waiting_groups == 0


@pytest.mark.parametrize("name", ["max_groups", "max_members", "max_tokens", "idle_s"])
def test_limits_that_would_stop_everything_are_refused(name):
    with pytest.raises(ValueError, match=name):
        GroupLimits(**{name: 0})


@pytest.mark.parametrize("name", ["max_answers", "keep_s", "retry_s"])
def test_limits_below_zero_are_refused(name):
    with pytest.raises(ValueError, match=name):
        GroupLimits(**{name: -0.5})
    assert getattr(GroupLimits(**{name: 0}), name) == 0


def test_refused_members_are_told_to_come_back_at_the_pace_of_the_groups():
    """Four groups at a time, one answered every 5 seconds: a fifth group waits 5 seconds."""
    desk = Desk(GroupLimits(max_groups=4))
    for number in range(4):
        desk.join("a", f"g{number}", wait_s=1000.0)
    with pytest.raises(Overloaded) as raised:
        desk.join("a", "early")
    assert (raised.value.reason, raised.value.retry_after) == ("groups", 1.0), "nothing was measured yet"
    for number in range(40):
        desk.now += 5.0
        desk.join("b", f"g{number}", wait_s=1000.0)
        assert desk.score() == ["complete"]
        desk.join("a", f"g{number + 4}", wait_s=1000.0)
    with pytest.raises(Overloaded) as raised:
        desk.join("a", "more")
    assert raised.value.retry_after == 5.0


@pytest.mark.parametrize(("size", "seconds"), [(6, 6.0), (5, 5.0)])
def test_a_large_group_waits_for_as_many_groups_as_it_displaces(size, seconds):
    desk = Desk(GroupLimits(max_members=8))
    for number in range(20):
        desk.now += 2.0
        desk.join("a", f"warm{number}", size=1)
        desk.now += 2.0
        assert desk.score() == ["complete"]
    for number in range(4):
        desk.join("a", f"g{number}", wait_s=1000.0)
    with pytest.raises(Overloaded) as raised:
        desk.join("a", "large", size=size)
    assert raised.value.retry_after == seconds, "half a group a place, one every 2 seconds while there were any"


def test_what_nobody_came_back_for_gives_way_to_others_after_a_retry_s_time():
    desk = Desk(GroupLimits(max_groups=1, retry_s=60.0, idle_s=600.0))
    waiter = desk.join("a", "left", on_timeout="error")
    desk.tick(10)
    assert isinstance(desk.heard[waiter], GroupIncomplete)
    desk.now += 59
    with pytest.raises(Overloaded) as raised:
        desk.enter(of_run("other", "a", "new"))
    assert raised.value.retry_after == 1.0, "a second later it is free"
    again = desk.join("a", "left", on_timeout="error")  # it may still come, and has its place
    assert not again.done
    desk.tick(10)
    desk.now += 60
    desk.enter(of_run("other", "a", "new"))
    assert desk.state.counts.expired == 1
    assert desk.state.find(again.group.key) is None


def test_the_longer_nothing_completes_the_longer_others_are_sent_away():
    desk = Desk(GroupLimits(max_groups=1))
    desk.join("a", "stuck", wait_s=1000.0)
    told = []
    for wait in (0, 3, 4, 100):
        desk.now += wait
        with pytest.raises(Overloaded) as raised:
            desk.join("a", "next")
        told.append(raised.value.retry_after)
    assert told == [1.0, 3.0, 7.0, 60.0]


def test_quiet_times_say_nothing_about_the_pace():
    desk = Desk(GroupLimits(max_groups=1))
    for number in range(5):
        desk.now += 1000.0
        desk.join("a", f"g{number}", size=1)
        desk.now += 3.0
        assert desk.score() == ["complete"]
    desk.join("a", "open")
    with pytest.raises(Overloaded) as raised:
        desk.join("a", "next")
    assert raised.value.retry_after == 3.0
