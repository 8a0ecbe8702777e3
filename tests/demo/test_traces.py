"""Reasoning traces: what each detour does to the total that is believed in."""

import random
import re

import pytest

from opera_demo.traces import FILLERS, REFLECTIONS, Reasoner, conclusion, response, trace, wrong_totals
from opera_demo.world import Event, Task, tasks

PEARS = Task("shop", "pears", 12, (Event("Ana", "sold", 3), Event("Ben", "brought", 5)))
TASKS = tasks("validation", 60)


def test_a_right_trace_restates_each_event_and_calculates():
    texts = [thought.text for thought in trace(PEARS, random.Random(0))]
    assert texts == ["Ana sold 3, 12 minus 3 is 9.", "Ben brought 5, 9 plus 5 is 14."]


@pytest.mark.parametrize(
    ("detour", "sound"),
    [(None, True), ("fix", True), ("confirm", True), ("filler", True), ("slip", False), ("spoil", False)],
)
def test_a_trace_concludes_rightly_exactly_when_it_is_sound(detour, sound):
    rng = random.Random(1)
    for task in TASKS:
        thoughts = trace(task, rng, detour)
        assert (conclusion(task, thoughts) == task.answer) is sound
        assert thoughts[-1].told == len(task.events)
        assert [thought.kind for thought in thoughts if thought.kind != "step"] == {
            None: [],
            "fix": ["slip", "fix"],
        }.get(detour, [detour])


def test_arithmetic_in_the_text_is_wrong_exactly_in_slips_and_spoils():
    rng = random.Random(2)
    for task in TASKS:
        for detour in (None, "slip", "fix", "spoil", "confirm", "filler"):
            for thought in trace(task, rng, detour):
                found = re.search(r"(\d+) (plus|minus) (\d+) is (\d+)\.$", thought.text)
                if thought.kind == "filler":
                    assert found is None
                    continue
                before, sign, amount, result = found.groups()
                right = int(before) + (1 if sign == "plus" else -1) * int(amount)
                assert (int(result) == right) is (thought.kind not in ("slip", "spoil"))
                assert int(result) == thought.total


def test_second_thoughts_start_with_a_reflection_word():
    rng = random.Random(3)
    for detour in ("fix", "spoil", "confirm"):
        thought = next(thought for thought in trace(PEARS, rng, detour) if thought.kind == detour)
        assert thought.text.split(",")[0] in REFLECTIONS


def test_a_fix_goes_back_to_the_total_before_the_mistake():
    reasoner = Reasoner(PEARS, random.Random(4))
    reasoner.slip()
    assert reasoner.total != 9
    reasoner.fix()
    assert reasoner.total == 9
    assert reasoner.thoughts[-1].text.endswith(", that is wrong, 12 minus 3 is 9.")


def test_an_early_conclusion_tells_the_rest_rightly_from_the_last_total():
    reasoner = Reasoner(PEARS, random.Random(5))
    assert conclusion(PEARS, []) == 14
    reasoner.slip()
    assert conclusion(PEARS, reasoner.thoughts) == reasoner.total + 5


def test_wrong_totals_are_near_misses_that_leave_the_story_possible():
    assert wrong_totals(PEARS, 0, 12) == [6, 7, 8, 10, 11, 12]
    full = Task("box", "nuts", 15, (Event("Ana", "brought", 5), Event("Ben", "sold", 9)))
    assert wrong_totals(full, 0, 15) == [17, 18, 19]


def test_nothing_can_be_taken_back_before_anything_was_told():
    reasoner = Reasoner(PEARS, random.Random(6))
    reasoner.filler()
    assert reasoner.thoughts[0].text in FILLERS
    assert not reasoner.can_spoil
    with pytest.raises(ValueError, match="nothing has been told"):
        reasoner.fix()


def test_a_response_has_one_paragraph_a_thought():
    assert response(["One.", "Two."], "Three.") == "<think>\nOne.\n\nTwo.\n\n</think>\n\nThree."
    assert response([], "Three.") == "<think>\n</think>\n\nThree."
