"""Rows of a batch as whole groups."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opera_adapters._grouping import Row, groups, wire_group


def rows(questions: str) -> list[Row]:
    return [
        Row({"prompt": question, "reference": "r"}, {"response": f"answer {at}"})
        for at, question in enumerate(questions)
    ]


def test_adjacent_blocks_are_groups() -> None:
    assert groups(rows("aabb"), 2) == [[0, 1], [2, 3]]


def test_equal_neighbours_stay_two_groups() -> None:
    """The same question twice in a batch was rolled out twice: two groups, not one of four."""
    assert groups(rows("aaaa"), 2) == [[0, 1], [2, 3]]


def test_rows_that_are_not_adjacent_are_grouped_by_question() -> None:
    """OnlineDPO lists all prompts, then all of them again."""
    assert groups(rows("abcabc"), 2) == [[0, 3], [1, 4], [2, 5]]


def test_without_a_size_equal_questions_are_a_group() -> None:
    assert groups(rows("aabaa"), None) == [[0, 1, 3, 4], [2]]


def test_the_reference_is_part_of_the_question() -> None:
    one, other = rows("aa")
    other = Row({**other.question, "reference": "another"}, other.trajectory)
    assert groups([one, other], None) == [[0], [1]]


@given(st.text("abc", min_size=1, max_size=24), st.one_of(st.none(), st.integers(1, 5)))
def test_every_row_is_in_one_group_with_its_own_question(questions: str, size: int | None) -> None:
    found = groups(rows(questions), size)
    assert sorted(at for group in found for at in group) == list(range(len(questions)))
    for group in found:
        assert len({questions[at] for at in group}) == 1
        assert size is None or len(group) <= size


def test_a_row_the_wire_refuses_says_why() -> None:
    image = Row(
        {"prompt": [{"role": "user", "content": [{"type": "image"}]}], "reference": "r"}, {"response": "x"}
    )
    nothing = Row({"prompt": "a", "reference": None}, {"response": "x"})
    assert "prompt" in (image.checked().problem or "")
    assert "reference" in (nothing.checked().problem or "")
    assert rows("a")[0].checked().problem is None


def test_ids_are_positions_in_the_group() -> None:
    good, bad = rows("aa")
    bad = Row(bad.question, bad.trajectory, "no")
    group = wire_group("7", [bad, good])
    assert group.group_id == "7"
    assert [(one.id, one.response) for one in group.trajectories] == [("1", "answer 0")]
