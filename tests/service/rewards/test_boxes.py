"""Boxes: the balanced one, and the released regular expressions as their own oracle."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.rewards.boxes import last_box, released_answer

soup = st.lists(
    st.sampled_from(["\\boxed{", "}", "{", "\\", "\n", "a", " ", "<think>", "</think>", "\\}"]), max_size=14
).map("".join)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("no box", None),
        (r"\boxed{7}", "7"),
        (r"\boxed{1} then \boxed{ 2 }.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("\\boxed{a\n+ b}", "a\n+ b"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed {5}", "5"),
        (r"\boxed{1} but \boxed{2", "1"),
        (r"}} \boxed{4}", "4"),
        (r"\boxed{}", ""),
    ],
)
def test_the_last_balanced_box(text, content):
    assert last_box(text) == content


@given(soup)
def test_the_released_answer_is_what_its_regular_expressions_find(text):
    visible = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    boxes = re.findall(r"\\boxed\{(.*?)\}", visible)
    assert released_answer(text) == (boxes[-1] if boxes else visible).strip()


@given(
    st.recursive(
        st.sampled_from(["x", "1+", " "]), lambda inner: st.lists(inner).map(lambda s: "{" + "".join(s) + "}")
    )
)
def test_any_balanced_content_is_found_whole(content):
    assert last_box("so " + "\\boxed{" + content + "} and {more}") == content.strip()
