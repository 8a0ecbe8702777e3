"""Members without ids: n a group, in order of submission, and retries that are recognised."""

import random

from hypothesis import given
from hypothesis import strategies as st

from opera_client.errors import EngineFailed
from opera_service.groups.anonymous import AnonymousMembers
from opera_service.groups.group import Waiter
from opera_service.groups.limits import GroupLimits

from .conftest import Desk, submission


class Anonymous(Desk):
    """A desk whose callers give a text and nothing else."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.submissions = AnonymousMembers(self.state, lambda: self.now)

    def come(self, text: str, prompt: str = "p", size: int = 2, wait_s: float = 10.0) -> Waiter[str, str]:
        return self.enter(self.submissions.place(submission("", prompt, size=size, text=text, wait_s=wait_s)))


def test_the_next_member_of_a_full_group_opens_another():
    desk = Anonymous()
    waiters = [desk.come(text) for text in "abcd"]
    assert desk.score() == ["complete", "complete"]
    assert waiters[0].group is waiters[1].group
    assert waiters[2].group is waiters[3].group
    assert waiters[0].group is not waiters[2].group


def test_equal_texts_that_all_wait_are_different_members():
    desk = Anonymous()
    first, second, third = desk.come("same"), desk.come("same"), desk.come("same")
    assert first.member is not second.member
    assert third.group is not first.group


def test_other_prompts_and_other_sizes_open_groups_of_their_own():
    desk = Anonymous()
    waiters = [desk.come("a"), desk.come("b", "q"), desk.come("c", size=3)]
    assert len({id(waiter.group) for waiter in waiters}) == 3


def test_a_retry_after_the_connection_broke_takes_its_old_place():
    desk = Anonymous()
    broken = desk.come("a")
    desk.state.leave(broken)
    again = desk.come("a")
    assert again.member is broken.member
    desk.come("b")
    assert desk.score() == ["complete"]


def test_a_retry_hears_the_answer_that_nobody_took():
    desk = Anonymous()
    broken, _ = desk.come("a"), desk.come("b")
    desk.state.leave(broken)
    desk.score()
    again = desk.come("a")
    assert again.member is broken.member
    assert again.member.delivered
    assert desk.come("a").group is not broken.group


def test_a_retry_after_a_failure_takes_its_old_place():
    desk = Anonymous()
    first, second = desk.come("a"), desk.come("b")
    desk.score(outcome=EngineFailed("no"))
    assert (desk.come("b").member, desk.come("a").member) == (second.member, first.member)
    assert desk.score() == ["complete"]


def test_a_late_member_joins_the_group_it_missed_but_not_much_later():
    desk = Anonymous()
    first = desk.come("a", size=3)
    assert desk.score(10) == ["partial"]
    desk.now += 9
    assert desk.come("b", size=3).group is first.group
    assert desk.score() == ["late"]
    desk.now += 10
    assert desk.come("c", size=3).group is not first.group


def test_groups_that_are_over_are_forgotten_while_their_answers_are_kept():
    desk = Anonymous()
    for number in range(50):
        desk.come(f"{number}", size=1)
        desk.score()
    assert desk.state.kept_answers == 50
    assert len(desk.submissions) == 1


def test_an_equal_text_after_the_answer_was_taken_is_another_member():
    desk = Anonymous()
    first = desk.come("a", size=3)
    assert desk.score(10) == ["partial"]
    second = desk.come("a", size=3)
    assert second.group is first.group
    assert second.member is not first.member


def test_a_group_that_the_book_forgot_is_not_joined():
    desk = Anonymous(GroupLimits(idle_s=1.0))
    first = desk.come("a")
    desk.state.leave(first)
    desk.tick(1)
    assert desk.come("b").group is not first.group


def test_keys_are_forgotten_with_their_groups():
    desk = Anonymous(GroupLimits(keep_s=1.0))
    for number in range(1000):
        desk.come("a", f"prompt {number}", size=1)
        desk.score(1)
    assert len(desk.submissions) <= 64


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32))
def test_any_order_with_any_retries_fills_groups_exactly(size, groups, seed):
    """Each sample hangs up and returns at random; none is counted twice, none is left over."""
    desk, dice = Anonymous(), random.Random(seed)
    texts = [f"{number}" for number in range(size * groups)]
    dice.shuffle(texts)
    final = []
    for text in texts:
        waiter = desk.come(text, size=size)
        while dice.random() < 0.4:
            desk.state.leave(waiter)
            waiter = desk.come(text, size=size)
        final.append(waiter)
    kinds = desk.score()
    assert kinds == ["complete"] * groups
    assert len({id(waiter.member) for waiter in final}) == size * groups
    assert all(waiter in desk.heard for waiter in final)
