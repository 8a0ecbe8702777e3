"""The state of groups: who meets whom, who hears what, and what is remembered."""

import pytest

from opera_client.errors import (
    EngineFailed,
    GroupIncomplete,
    InternalError,
    InvalidRequest,
    MemberConflict,
    Unavailable,
)


def test_a_full_group_is_scored_once_and_everybody_hears(desk):
    first = desk.join("a", size=3)
    second = desk.join("b", size=3)
    assert desk.score() == []
    third = desk.join("c", size=3)
    assert desk.score() == ["complete"]
    assert [desk.heard[waiter] for waiter in (first, second, third)] == ["a of a b c", "b of a b c", "c of a b c"]
    assert desk.score(5) == []
    assert (desk.state.counts.complete, desk.state.waiting_groups, desk.state.kept_answers) == (1, 0, 3)


def test_a_group_of_one_waits_for_nobody(desk):
    waiter = desk.join("a", size=1)
    assert desk.score() == ["complete"]
    assert desk.heard[waiter] == "a of a"


def test_groups_do_not_mix(desk):
    desk.join("a", "g1"), desk.join("a", "g2")
    assert desk.score() == []
    in_second = desk.join("b", "g2")
    assert desk.score() == ["complete"]
    assert desk.heard[in_second] == "b of a b"
    assert desk.state.waiting_groups == 1


def test_members_keep_the_order_in_which_they_arrived(desk):
    for name in "cab":
        desk.join(name, size=3)
    (batch,) = desk.tick()
    assert list(batch.members) == ["c", "a", "b"]


# --- retries ---------------------------------------------------------------------------------------------


def test_a_retry_while_waiting_takes_the_same_place(desk):
    first = desk.join("a")
    again = desk.join("a")
    assert desk.score() == []
    other = desk.join("b")
    assert desk.score() == ["complete"]
    assert desk.heard == {first: "a of a b", again: "a of a b", other: "b of a b"}
    assert desk.state.counts.duplicates == 1


def test_a_retry_while_scoring_hears_the_same(desk):
    desk.join("a"), desk.join("b")
    (batch,) = desk.tick()
    again = desk.join("a")
    assert desk.tick() == []
    desk.state.close(batch, {"a": "1", "b": "2"})
    assert desk.heard[again] == "1"
    assert desk.score() == []


def test_a_retry_after_the_answer_hears_it_at_once(desk):
    desk.join("a"), desk.join("b")
    desk.score()
    again = desk.join("a")
    assert desk.heard[again] == "a of a b"
    assert desk.score() == []
    assert desk.state.counts.complete == 1


def test_a_member_whose_caller_left_is_scored_all_the_same(desk):
    gone = desk.join("a")
    desk.state.leave(gone)
    other = desk.join("b")
    assert desk.score() == ["complete"]
    assert desk.heard == {other: "b of a b"}
    again = desk.join("a")
    assert desk.heard[again] == "a of a b"


def test_leaving_twice_or_after_the_answer_changes_nothing(desk):
    first, second = desk.join("a"), desk.join("b")
    desk.score()
    desk.state.leave(first), desk.state.leave(first), desk.state.leave(second)
    assert len(desk.heard) == 2


@pytest.mark.parametrize("scored", [False, True])
def test_the_same_member_with_another_content_is_a_conflict(desk, scored):
    desk.join("a")
    if scored:
        desk.join("b")
        desk.score()
    with pytest.raises(MemberConflict) as raised:
        desk.join("a", text="something else")
    assert (raised.value.field, raised.value.status) == ("member_id", 409)
    assert desk.score(10) == ([] if scored else ["partial"])


@pytest.mark.parametrize("scored", [False, True])
def test_one_member_too_many_is_a_conflict(desk, scored):
    desk.join("a"), desk.join("b")
    if scored:
        desk.score()
    with pytest.raises(MemberConflict, match="has all its 2 members") as raised:
        desk.join("c")
    assert raised.value.field == "member_id"


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"size": 3}, "group_size"),
        ({"on_timeout": "error"}, "on_timeout"),
        ({"shared": {"prompt": "q"}}, "prompt"),
        ({"shared": {}}, "prompt"),
    ],
)
def test_a_member_that_describes_the_group_otherwise_is_refused_and_named(desk, other, field):
    desk.join("a")
    with pytest.raises(InvalidRequest) as raised:
        desk.join("b", **other)
    assert raised.value.field == field
    desk.join("b")
    assert desk.score() == ["complete"]


# --- waits -----------------------------------------------------------------------------------------------


def test_partial_rewards_the_members_present_when_the_first_wait_is_over(desk):
    first = desk.join("a", size=3)
    desk.now += 4
    second = desk.join("b", size=3)
    assert desk.score(5.9) == []
    assert desk.score(0.1) == ["partial"]
    assert desk.heard == {first: "a of a b", second: "b of a b"}
    assert desk.state.counts.partial == 1


def test_a_shorter_wait_ends_the_groups_wait(desk):
    desk.join("a", size=3, wait_s=100.0)
    desk.join("b", size=3, wait_s=1.0)
    assert desk.state.next_event == desk.now + 1
    assert desk.score(1) == ["partial"]


def test_a_caller_that_left_ends_no_wait(desk):
    gone = desk.join("a", size=3)
    desk.state.leave(gone)
    assert desk.score(50) == []


def test_error_refuses_the_caller_and_keeps_its_place(desk):
    first = desk.join("a", on_timeout="error")
    assert desk.score(10) == []
    assert isinstance(desk.heard[first], GroupIncomplete)
    assert "1 of 2 members" in desk.heard[first].message
    other = desk.join("b", on_timeout="error")
    assert desk.score() == ["complete"]
    assert desk.heard[other] == "b of a b"
    again = desk.join("a", on_timeout="error")
    assert desk.heard[again] == "a of a b"
    assert desk.state.counts.incomplete == 1


def test_error_lets_the_others_wait_on(desk):
    desk.join("a", size=3, on_timeout="error")
    desk.now += 5
    second = desk.join("b", size=3, on_timeout="error")
    desk.score(5)
    assert second not in desk.heard
    desk.score(5)
    assert isinstance(desk.heard[second], GroupIncomplete)


def test_a_wait_that_ends_while_scoring_hears_the_answer(desk):
    first, _ = desk.join("a"), desk.join("b")
    (batch,) = desk.tick()
    assert desk.tick(60) == []
    desk.state.close(batch, {"a": "1", "b": "2"})
    assert desk.heard[first] == "1"


@pytest.mark.parametrize("on_timeout", ["partial", "error"])
def test_a_group_that_fills_at_the_last_moment_is_complete(desk, on_timeout):
    desk.join("a", on_timeout=on_timeout)
    desk.now += 10
    desk.join("b", on_timeout=on_timeout)
    assert desk.score() == ["complete"]
    assert sorted(map(str, desk.heard.values())) == ["a of a b", "b of a b"]


# --- late members ----------------------------------------------------------------------------------------


def test_a_late_member_is_scored_with_those_present_and_changes_nothing(desk):
    first = desk.join("a", size=3)
    assert desk.score(10) == ["partial"]
    late = desk.join("b", size=3)
    assert (desk.state.waiting_groups, desk.state.kept_answers) == (1, 0)
    assert desk.score() == ["late"]
    assert (desk.state.waiting_groups, desk.state.kept_answers) == (0, 2)
    latest = desk.join("c", size=3)
    assert desk.score() == ["late"]
    assert desk.heard == {first: "a of a", late: "b of a b", latest: "c of a b c"}
    again = desk.join("a", size=3)
    assert desk.heard[again] == "a of a"
    with pytest.raises(MemberConflict):
        desk.join("d", size=3)
    assert (desk.state.counts.partial, desk.state.counts.late, desk.state.counts.complete) == (1, 2, 0)


def test_members_that_come_while_the_present_are_scored_are_late_together(desk):
    desk.join("a", size=4)
    (batch,) = desk.tick(10)
    assert list(batch.members) == ["a"]
    late, also = desk.join("b", size=4), desk.join("c", size=4)
    assert desk.tick(30) == []
    desk.state.close(batch, {"a": "1"})
    assert desk.score() == ["late"]
    assert (desk.heard[late], desk.heard[also]) == ("b of a b c", "c of a b c")
    assert desk.state.counts.late == 2


def test_a_failed_late_round_is_repeated_by_the_retry(desk):
    first = desk.join("a", size=3)
    desk.score(10)
    late = desk.join("b", size=3)
    assert desk.score(outcome=EngineFailed("no")) == ["late"]
    assert isinstance(desk.heard[late], EngineFailed)
    again = desk.join("b", size=3)
    assert desk.score() == ["late"]
    assert (desk.heard[first], desk.heard[again]) == ("a of a", "b of a b")


# --- failures --------------------------------------------------------------------------------------------


def test_a_failure_goes_to_everybody_and_the_first_retry_scores_afresh(desk):
    first, second = desk.join("a"), desk.join("b")
    assert desk.score(outcome=EngineFailed("no")) == ["complete"]
    assert all(isinstance(desk.heard[waiter], EngineFailed) for waiter in (first, second))
    again = desk.join("b")
    (batch,) = desk.tick()
    also = desk.join("a")
    assert desk.tick() == []
    desk.state.close(batch, {"a": "1", "b": "2"})
    assert (desk.heard[again], desk.heard[also]) == ("2", "1")
    assert (desk.state.counts.failed, desk.state.counts.complete) == (1, 1)


def test_members_that_came_during_a_failing_round_hear_of_it_too(desk):
    desk.join("a", size=3)
    (batch,) = desk.tick(10)
    meanwhile = desk.join("b", size=3)
    desk.tick(20)
    desk.state.close(batch, EngineFailed("no"))
    assert isinstance(desk.heard[meanwhile], EngineFailed)


def test_answers_that_miss_a_member_are_a_failure(desk):
    first, second = desk.join("a"), desk.join("b")
    (batch,) = desk.tick()
    desk.state.close(batch, {"a": "1"})
    assert all(isinstance(desk.heard[waiter], InternalError) for waiter in (first, second))


def test_refuse_all_reaches_those_who_wait_but_not_those_being_scored(desk):
    waiting = desk.join("a", "waiting")
    scored, _ = desk.join("a", "scoring"), desk.join("b", "scoring")
    (batch,) = desk.tick()
    desk.state.refuse_all(Unavailable("bye"))
    assert isinstance(desk.heard[waiting], Unavailable)
    assert scored not in desk.heard
    desk.state.close(batch, {"a": "1", "b": "2"})
    assert desk.heard[scored] == "1"
