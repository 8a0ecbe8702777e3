"""Runs, and keys where there are any, share the room that open groups take."""

from itertools import count

import pytest

from opera_client.errors import Overloaded
from opera_service.groups.limits import GroupLimits

from .conftest import Desk, of_run


def filled(desk: Desk, run: str, **fields) -> int:
    """Open groups that never complete until one is refused; return how many were admitted."""
    numbers = count()
    with pytest.raises(Overloaded, match=r"1 of its 2 members: is group_size right\?") as raised:  # noqa: PT012  whichever it is
        for number in numbers:
            desk.enter(of_run(run, "a", f"{run} of {fields.get('sender')}-{number}", **fields))
    admitted = next(numbers) - 1
    assert raised.value.reason == "group_share"
    assert raised.value.message.startswith(f"{admitted} groups of this run wait")
    return admitted


def test_a_run_whose_groups_never_complete_leaves_room_for_others():
    desk = Desk(GroupLimits(max_groups=100))
    assert filled(desk, "wrong", wait_s=1000.0) == 80
    for number in range(200):
        desk.enter(of_run("right", "a", f"g{number}"))
        desk.enter(of_run("right", "b", f"g{number}"))
        assert desk.score() == ["complete"]


def test_many_runs_of_one_key_hold_no_more_than_one_run():
    desk = Desk(GroupLimits(max_groups=100))
    with pytest.raises(Overloaded, match="80 groups sent with this key wait") as raised:  # noqa: PT012  whichever it is
        for number in count():
            desk.enter(of_run(f"made up {number}", "a", f"g{number}", sender="hostile", wait_s=1000.0))
    assert raised.value.reason == "group_share"
    for number in range(200):
        desk.enter(of_run("right", "a", f"h{number}", sender="honest"))
        desk.enter(of_run("right", "b", f"h{number}", sender="honest"))
        assert desk.score() == ["complete"]


def test_a_run_whose_groups_never_complete_leaves_room_for_others_of_its_key():
    desk = Desk(GroupLimits(max_groups=100))
    assert filled(desk, "wrong", sender="key", wait_s=1000.0) == 67
    for number in range(200):
        desk.enter(of_run("right", "a", f"g{number}", sender="key"))
        desk.enter(of_run("right", "b", f"g{number}", sender="key"))
        assert desk.score() == ["complete"]


@pytest.mark.parametrize("run", [None, "same"])
def test_runs_of_one_name_with_different_keys_are_two(run):
    desk = Desk(GroupLimits(max_groups=100))
    assert filled(desk, run, sender="theirs", wait_s=1000.0) == 67
    assert filled(desk, run, sender="mine", wait_s=1000.0) == 22, "two thirds of what is left"


def test_without_keys_runs_alone_are_told_apart():
    desk = Desk(GroupLimits(max_groups=100))
    for number in range(100):
        desk.enter(of_run(f"run {number}", "a", f"g{number}", wait_s=1000.0))
    with pytest.raises(Overloaded) as raised:
        desk.enter(of_run("one more", "a", "g"))
    assert raised.value.reason == "groups"


@pytest.mark.parametrize("bound", [{"max_members": 200}, {"max_tokens": 200}])
def test_places_and_tokens_are_shared_as_groups_are(bound):
    desk = Desk(GroupLimits(**bound))
    assert filled(desk, "wrong") == 80
    assert filled(desk, "other") == 16
