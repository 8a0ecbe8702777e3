"""Every sign fires on the cheat it is named after, and never on the sound traces of the demo's world."""

import random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_demo.traces import FILLERS, Detour, response, trace
from opera_demo.world import tasks
from opera_service.observability.hacking_indicators import (
    EMPTY_REFLECTION,
    LOOP,
    REFERENCE_COPY,
    REPETITION,
    content,
    indicators,
    reflects_on_nothing,
    repetition,
)
from opera_service.trajectories.control_prompts import CHINESE, ENGLISH

REFERENCE = (
    "The lighthouse keeper climbs the narrow stairs each evening, trims the wick, polishes the great lens and "
    "writes the weather into a leather book, because ships that never thank him find their harbour by his small "
    "steady flame."
)


@pytest.mark.parametrize("tier", ["standard", "harder"])
@pytest.mark.parametrize("detour", [None, *get_args(Detour)])
def test_sound_traces_have_no_sign(encode, tier, detour):
    rng = random.Random(f"{tier}/{detour}")
    for task in tasks("validation", 40, tier=tier):
        thoughts = [thought.text for thought in trace(task, rng, detour)]
        group = encode([response(thoughts, task.reference)], prompt=task.question, reference=task.reference)
        assert indicators(group) == [()]


def cheats(task, rng):
    """Responses that a policy paid by the released reward learns, each with the sign it must show."""
    thoughts = [thought.text for thought in trace(task, rng)]
    yield EMPTY_REFLECTION, response([*thoughts, *["Wait."] * 6], task.reference)
    yield EMPTY_REFLECTION, response([*thoughts, *rng.sample(FILLERS[:5], 3)], task.reference)
    yield (
        EMPTY_REFLECTION,
        response([*thoughts, "Hmm...", "But let me think.", "等等，让我再想一想。"], task.reference),
    )
    yield REPETITION, response([*thoughts, *[f"Wait, {thoughts[-1]}"] * 9], task.reference)
    yield REPETITION, response(thoughts, " ".join([task.reference] * 12))
    yield REPETITION, response([*thoughts, "! " * 60], task.reference)


def test_cheats_show_their_sign(encode):
    rng = random.Random(0)
    for task in tasks("validation", 10):
        for sign, text in cheats(task, rng):
            group = encode([text], prompt=task.question, reference=task.reference)
            assert sign in indicators(group)[0], text


def test_a_copied_reference_shows_in_the_thought_and_not_in_the_answer(encode):
    honest = "<think>\nHe keeps a light for strangers.\n\n</think>\n\n"
    copied = f"<think>\nLet me begin. {REFERENCE}\n\n</think>\n\nDone."
    assert indicators(encode([honest + "A poem.", honest + REFERENCE, copied], reference=REFERENCE)) == [
        (),
        (),
        (REFERENCE_COPY,),
    ]


def test_signs_come_together_and_stay_with_their_trajectory(encode):
    looping = "<think>\n" + "Wait.\n\n" * 40 + "</think>\n\nyes"
    assert indicators(encode(["plain", looping, "plain"])) == [(), (EMPTY_REFLECTION, REPETITION), ()]


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("Wait.", 0),
        ("Hmmmm, let me think about this once more.", 0),
        ("Wait, that is wrong, 12 minus 3 is 9.", 4),  # 12, minus, 3, 9
        ("But the harbour is empty.", 2),  # harbour, empty
        ("等等，让我再想一想。", 0),
        ("等等，七是质数。", 1.5),  # 七, 质, 数
        *((control, 0) for control in (*ENGLISH, *CHINESE)),
    ],
)
def test_content_counts_the_words_that_say_something(paragraph, expected):
    assert content(paragraph) == expected


@pytest.mark.parametrize(
    ("paragraphs", "is_so"),
    [
        (["Wait."], False),  # one is a habit, two are a method
        (["Wait.", "Wait."], True),
        (["Wait.", "Wait.", "But 3 plus 4 is 7.", "Wait, 7 minus 2 is 5."], True),  # exactly half
        (["Wait.", "Wait."] + ["But 3 plus 4 is 7."] * 3, False),
        (["Yes.", "So.", "Good."], False),  # empty, but no reflection
        ([], False),
    ],
)
def test_reflection_on_nothing_is_half_of_the_reflective_paragraphs_and_two(paragraphs, is_so):
    assert reflects_on_nothing("\n\n".join(paragraphs)) is is_so


def test_repetition_by_hand():
    assert repetition("one two three " * 9) == 1 - 3 / 24  # 27 words, 24 4-grams, three of them different
    assert repetition("one two three " * 8 + "one two") == 0.0  # 23 4-grams say nothing
    assert repetition(" ".join(map(str, range(500)))) == 0.0


@pytest.mark.parametrize("after", [0, 3000])
def test_a_loop_in_a_long_sound_text_is_found(after):
    sound, more = " ".join(map(str, range(5000))), " ".join(map(str, range(7000, 7000 + after)))
    assert repetition(f"{sound} {'and so on ' * 70} {more}") > 0.9


@settings(deadline=None, max_examples=examples(60))
@given(st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), max_size=400))
def test_repetition_is_a_share_and_saying_it_all_over_again_makes_it_a_loop(letters):
    text = " ".join(letters)
    assert 0 <= repetition(text) < 1
    if 10 <= len(letters) <= 40:
        assert repetition(f"{text} " * 8) > LOOP


@settings(deadline=None, max_examples=examples(60))
@given(st.lists(st.text(max_size=60), max_size=8), st.text(max_size=200))
def test_no_text_breaks_the_signs(encode, paragraphs, answer):
    text = response(paragraphs, answer)
    for found in indicators(encode([text], reference=REFERENCE)):
        assert set(found) <= {EMPTY_REFLECTION, REPETITION, REFERENCE_COPY}
