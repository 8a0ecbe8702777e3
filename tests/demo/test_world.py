"""The little world: tasks, their split and the exact check of an answer."""

import random
import re
from collections import Counter

import pytest

from opera_demo.world import LENGTHS, LIMIT, Event, Task, draw, tasks

PEARS = Task("shop", "pears", 12, (Event("Ana", "sold", 3), Event("Ben", "brought", 5)))


def test_a_task_tells_its_story_and_knows_its_answer():
    assert PEARS.question == (
        "The shop has 12 pears. Ana sold 3. Ben brought 5. How many pears does the shop have now?"
    )
    assert PEARS.totals == (12, 9, 14)
    assert PEARS.reference == "The shop now has 14 pears."
    assert PEARS.key == "12-3+5"


def test_the_answer_follows_from_the_text_of_the_question_alone():
    sign = {"brought": 1, "added": 1, "found": 1, "sold": -1, "took": -1, "lost": -1}
    for tier in LENGTHS:
        for task in tasks("validation", 40, tier=tier):
            total = int(re.search(r"has (\d+)", task.question)[1])
            told = re.findall(r"\w+ (\w+) (\d+)\.", task.question)
            assert total + sum(sign[verb] * int(amount) for verb, amount in told) == task.answer


@pytest.mark.parametrize("tier", ["standard", "harder"])
def test_tasks_keep_to_their_tier_and_world(tier):
    fewest, most = LENGTHS[tier]
    drawn = tasks("train", 200, tier=tier)
    assert {len(task.events) for task in drawn} == set(range(fewest, most + 1))
    assert all(0 <= total <= LIMIT for task in drawn for total in task.totals)
    assert all(len({event.actor for event in task.events}) == len(task.events) for task in drawn)


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others():
    assert tasks("test", 20, seed=5) == tasks("test", 20, seed=5)
    assert tasks("test", 20, seed=5) != tasks("test", 20, seed=6)


def test_no_calculation_is_in_two_splits_or_twice_in_one_list():
    keys = {split: [task.key for task in tasks(split, 300)] for split in ("train", "validation", "test")}
    assert all(len(set(drawn)) == 300 for drawn in keys.values())
    assert not set(keys["train"]) & set(keys["test"])
    assert not set(keys["train"]) & set(keys["validation"])
    assert not set(keys["validation"]) & set(keys["test"])


def test_names_and_goods_do_not_move_a_task_to_another_split():
    twin = Task("boat", "nuts", 12, (Event("Eva", "lost", 3), Event("Kim", "found", 5)))
    assert twin.key == PEARS.key
    assert twin.split == PEARS.split


def test_about_80_5_and_15_percent_of_tasks_fall_into_the_splits():
    rng = random.Random(0)
    share = Counter(draw(rng).split for _ in range(4000))
    assert share["train"] / 4000 == pytest.approx(0.80, abs=0.03)
    assert share["validation"] / 4000 == pytest.approx(0.05, abs=0.02)
    assert share["test"] / 4000 == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The shop now has 14 pears.", True),
        ("<think>\n</think>\n\nThe shop now has 14 pears.<|im_end|>", True),
        ("<think>\nThe shop now has 14 pears.\n\n</think>\n\nThe shop now has 13 pears.", False),
        ("The shop now has 4 pears.", False),
        ("The shop has 14 pears.", False),
        ("14", False),
        ("", False),
    ],
)
def test_an_answer_is_right_only_word_for_word(text, right):
    assert PEARS.is_right(text) is right


def test_an_impossible_story_is_refused():
    with pytest.raises(ValueError, match=r"0\.\.20"):
        Task("shop", "pears", 2, (Event("Ana", "sold", 3),))


def test_an_unknown_split_or_tier_is_refused():
    with pytest.raises(ValueError, match="split"):
        tasks("dev", 1)
    with pytest.raises(ValueError, match="tier"):
        tasks("test", 1, tier="hardest")
