"""One rule for what a reference may be, on the wire and so in files and adapters."""

import math

import numpy as np
import pytest

from opera_client.wire import Group, MemberRequest, ScoreItem, reference_of, texts_of


@pytest.mark.parametrize(
    ("given", "reference"),
    [
        ("text", "text"),
        (5, "5"),
        (0.5, "0.5"),
        (np.int64(5), "5"),
        (np.float64(0.25), "0.25"),
        (np.str_("text"), "text"),
        (["a", "b"], ["a", "b"]),
        (("a", 2), ["a", "2"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array(["a", 1.5], dtype=object), ["a", "1.5"]),
        (None, None),
    ],
)
def test_text_numbers_and_lists_of_them(given, reference):
    assert reference_of(given) == reference


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": ["a"]}, "object with the keys target"),
        ([{"target": "a"}], "object with the keys target"),
        (math.nan, "nan, which is no answer"),
        (np.float64("nan"), "nan"),
        (math.inf, "inf"),
        (b"text", "type bytes"),
        (True, "type bool"),
        ([], "1 to 8 alternative references, not 0"),
        (["a"] * 9, "not 9"),
        ([["a"]], "type list"),
        ([None], "type NoneType"),
    ],
)
def test_what_is_no_answer_says_why(given, words):
    with pytest.raises(ValueError, match=words):
        reference_of(given)
    with pytest.raises(ValueError, match=words):
        Group(prompt="Q", reference=given, trajectories=[{"response": "a"}])


def test_all_alternatives():
    assert (texts_of("a"), texts_of(["a", "b"]), texts_of(None)) == (["a"], ["a", "b"], [])


def test_whole_numbers_are_names():
    group = Group(group_id=7, prompt="Q", reference=1, trajectories=[{"id": 3, "response": "a"}])
    assert (group.group_id, group.reference, group.trajectories[0].id) == ("7", "1", "3")
    member = MemberRequest(group_id=7, group_size=1, member_id=8, prompt="Q", reference="R", response="a")
    assert (member.group_id, member.member_id) == ("7", "8")
    assert ScoreItem(id=1, context="a", target="b").id == "1"
    with pytest.raises(ValueError, match="id"):
        ScoreItem(id=True, context="a", target="b")
    with pytest.raises(ValueError, match="id"):
        ScoreItem(id=1.5, context="a", target="b")
