"""What a group that says nothing is told."""

import pytest

from opera_client.wire import TrajectoryResult
from opera_service.pipelines.group_message import message_of


def results(*flags):
    return [TrajectoryResult(id=str(at), status="ok", reward=0.0, flags=list(own)) for at, own in enumerate(flags)]


def test_what_cannot_be_read_is_counted():
    said = message_of(
        results(
            ("think_missing", "format_gate", "uninformative"),
            ("think_missing", "format_gate", "uninformative"),
            ("empty_answer", "format_gate", "uninformative"),
        )
    )
    assert said is not None
    assert "2 without a think block, 1 without an answer, of 3" in said
    assert "think.mode" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([("no_spread",), ("no_spread", "length_drift")], "noise"),
        ([("uninformative",), ("uninformative",)], "that this reward reads"),
        ([("format_gate", "uninformative")] * 2, "that this reward reads"),
        ([("format_gate", "uninformative")], "one member"),
    ],
)
def test_other_silence(flags, said):
    assert said in (message_of(results(*flags)) or "")


@pytest.mark.parametrize("flags", [[], [()], [("no_spread",), ()], [("format_gate",), ("uninformative",)]])
def test_a_group_that_says_something_is_told_nothing(flags):
    assert message_of(results(*flags)) is None
