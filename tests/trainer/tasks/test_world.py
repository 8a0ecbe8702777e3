"""The world as a source of tasks: nothing that is trained on is tested on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_demo.world import LENGTHS
from opera_trainer.settings.tasks import TasksSettings
from opera_trainer.tasks.checks import is_right
from opera_trainer.tasks.world import ends_right, files

SMALL = TasksSettings(synthesis=20, train=40, validation=15, test=20)


@settings(max_examples=examples(20), deadline=None)
@given(one=st.integers(0, 2**31), other=st.integers(0, 2**31))
def test_no_calculation_is_in_two_files_and_no_seed_tests_what_another_trains_on(one: int, other: int):
    mine, theirs = files(SMALL, one), files(SMALL, other)
    ids = [task.id for tasks in mine.values() for task in tasks]
    assert len(ids) == len(set(ids))
    trained = {task.id for name in ("synthesis", "train") for task in mine[name]}
    held_out = {task.id for name in ("validation", "test", "harder") for task in theirs[name]}
    assert not trained & held_out
    assert not {task.id for task in mine["validation"]} & {
        task.id for task in [*theirs["test"], *theirs["harder"]]
    }


def test_the_same_seed_draws_the_same_and_more_tasks_begin_with_the_same():
    assert files(SMALL, 3) == files(SMALL, 3) != files(SMALL, 4)
    more = files(SMALL.model_copy(update={"test": 30}), 3)
    assert more["test"][:20] == files(SMALL, 3)["test"]


def test_the_harder_tier_has_lengths_that_training_lacks():
    drawn = files(SMALL, 0)
    longest = LENGTHS["standard"][1]
    for name, tasks in drawn.items():
        events = [task.prompt[0].content.count(".") - 1 for task in tasks]  # the first sentence is the start
        assert all((count > longest) is (name == "harder") for count in events)
        assert {task.tier for task in tasks} == {"harder" if name == "harder" else "standard"}


def test_a_reference_is_right_and_a_neighbour_wrong():
    task = files(SMALL, 0)["test"][0]
    number = next(word for word in task.reference.split() if word.isdigit())
    wrong = task.reference.replace(number, str(int(number) + 1))
    assert is_right(task, f"<think>\nWait.\n\n</think>\n\n{task.reference}") is True
    assert is_right(task, f"<think>\n{task.reference}\n\n</think>\n\n{wrong}") is False
    assert is_right(task, f"<think>\n{task.reference}") is False, "the thought was never closed"
    assert ends_right(task, f"Ana took 3, 7 minus 3 is {number}.\n\n") is True
    assert ends_right(task, f"It is {number}.\n\nWait, it is {int(number) + 1}.\n\n") is False
    assert ends_right(task, "Let me see.") is False
