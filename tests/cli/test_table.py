"""What a scored group looks like in a terminal."""

from opera_cli.table import remarks, segment_table
from opera_client.wire import GroupResult, SegmentResult, TrajectoryResult


def group(message, *flags):
    return GroupResult(
        group_id="g",
        size=1,
        scored=1,
        initial_mean_logprob=-1.0,
        reference_tokens=3,
        trajectories=[TrajectoryResult(id="a", status="ok", reward=0.5, flags=list(flags))],
        message=message,
    )


def test_a_group_that_says_nothing_says_why():
    assert [line.plain for line in remarks(group("too little apart", "no_spread"))] == [
        "remark: too little apart",
        "remark on a: no_spread",
    ]
    assert remarks(group(None)) == []


def test_credit_has_a_column_only_where_some_is_paid():
    def columns(*credited):
        segments = [
            SegmentResult(
                index=at,
                start=at,
                end=at + 1,
                text="So.",
                reflective=False,
                mean_logprob=-1.0,
                gain=0.0,
                credited=one,
            )
            for at, one in enumerate(credited)
        ]
        trajectory = TrajectoryResult(id="a", status="ok", reward=0.5, segments=segments)
        return [column.header for column in segment_table(trajectory, -1.0).columns]

    assert "credited" not in columns(False, False)
    assert columns(False, True)[-1] == "credited"
