"""What a scored group looks like in a terminal."""

from opera_cli.table import remarks
from opera_client.wire import GroupResult, TrajectoryResult


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
