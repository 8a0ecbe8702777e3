"""What is no single answer is wrong before a verifier sees it; what is only written otherwise is rewritten."""

import pytest

from opera_service.rewards.boxes import last_box
from opera_service.rewards.math_text import is_denied, is_prose, is_single, rewritten, same_percent, same_unit
from opera_service.rewards.outcomes import same_answer


@pytest.mark.parametrize(
    "answer",
    [
        r"17 \cup 18",
        "3=18",
        "17, 18",
        r"18 \text{ or } 19",
        "18 < 19",
        r"x \in \{18\}",
        r"18 \pm 1",
        "17; 18",
        "18 或 19",
    ],
)
def test_more_than_one_expression_is_no_answer(answer):
    assert not is_single(answer, "18")
    assert same_answer("18", answer) is False


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("x = 18", "18"),
        ("1,234", "1234"),
        (r"18\text{ apples}", "18"),
        ("(1, 2)", "(1,2)"),
        (r"x \le 3", r"x \leq 3"),
        (r"\frac{\sqrt{2}}{2}", r"\sin 45"),
        (r"1 \text{ and } 2", r"1 \text{ and } 2"),
    ],
)
def test_one_expression_is_an_answer(answer, gold):
    assert is_single(answer, gold)


def test_prose_in_a_box_is_no_answer():
    assert not is_single("18 is wrong", "18")
    assert not is_single("the answer may be 18", "18")


def test_percent_and_units_are_compared():
    assert not same_percent(r"18\%", "18")
    assert same_percent("18%", r"18\%")
    assert not same_unit(r"18\text{ cm}", r"18\text{ m}")
    assert same_unit("18 cm", r"18\text{ cm}")
    assert same_unit("18", r"18\text{ m}")


@pytest.mark.parametrize(
    "text",
    [
        r"It is not \boxed{18}.",
        r"\boxed{18} is wrong.",
        r"The result $\boxed{18}$ is incorrect, I think.",
        r"It isn't \boxed{18}",
        r"答案不是 \boxed{18}",
    ],
)
def test_a_box_that_is_denied_is_no_answer(text):
    assert is_denied(text, last_box(text))


@pytest.mark.parametrize(
    "text", [r"So it is \boxed{18}.", r"That was wrong; now \boxed{18}.", r"\boxed{18}, not 17"]
)
def test_other_boxes_are_answers(text):
    assert not is_denied(text, last_box(text))


def test_other_ways_to_write_a_number_are_rewritten():
    assert rewritten("１８") == "18"
    assert rewritten("1.8e1") == r"1.8 \cdot 10^{1}"
    assert rewritten(r"90^\circ") == r"(90 \cdot \pi / 180)"
    assert rewritten("the") == "the"


def test_prose_references_are_told_from_expressions():
    assert is_prose("The train arrives at 18 in the evening")
    assert not is_prose(r"\frac{1}{2} \text{ of a cake}")
    assert not is_prose("We get $18$ at the end of the day")
