"""Two short answers are the same when a reader would say so, in any script."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.rewards.answer_classes import said
from opera_service.rewards.registry import resolve

SAME = [
    ("42", "４２"),
    ("café", "cafe\u0301"),
    ("−5", "-5"),
    ("- 5", "5"),
    ("北京", "北 京。"),
    ("مُحَمَّد", "محمد"),
    ("yes ✔️", "yes"),
    ("Paris, France", "paris france"),
]
DIFFERENT = [
    ("-5", "5"),
    ("3.5", "3 5"),
    ("1/2", "1 2"),
    ("12:30", "12 30"),
    ("काला", "कील"),
    ("สี", "สู"),
    ("2020", "2021"),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_answers_that_say_the_same(left, right):
    assert said(left) == said(right)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_answers_that_say_something_else(left, right):
    assert said(left) != said(right)


def test_case_and_punctuation_do_not_count():
    assert said("It's «42».") == said("it s 42") == "it s 42"
    assert said("2020-2021, (-5) and 1,000!") == "2020 2021 -5 and 1,000"
    assert said("…") == ""


@given(st.text(max_size=30))
def test_no_composition_of_characters_changes_it(text):
    assert said(unicodedata.normalize("NFD", text)) == said(unicodedata.normalize("NFC", text))


def test_a_sign_is_part_of_what_most_members_say(hand):
    responses = [hand.thought(-1.0, answer=answer) for answer in ("-5", "5", "5.", "-5", "-5")]
    outcome = hand.Bench().price(resolve("ttrl", "paper", {}), responses)
    assert [one.reward for one in outcome.trajectories] == [1, 0, 0, 1, 1]
