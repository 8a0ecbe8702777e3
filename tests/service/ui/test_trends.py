"""Curves and completeness, against numbers by hand."""

import pytest
from tests.service.ui.conftest import Keep, entry, member

from opera_service.ui.trends import ARRIVALS


def run_of(page, name: str = "run") -> dict:
    return next(one for one in page.overview()["runs"] if one["run"] == name)


def test_a_step_is_the_mean_of_its_trajectories_and_of_its_groups_spreads(keep: Keep):
    page = keep(
        entry("a", member("1", 0.0, tokens=10), member("2", 1.0, tokens=30, flags=["format_gate"])),
        entry("b", member("1", 0.5, flags=["think_unclosed"]), member("2", 0.5, flags=["repetition"])),
        entry("c", member("1", None), member("2", 1.0)),
    )
    (point,) = page.series("run")["points"]
    assert point["reward"] == pytest.approx(3.0 / 5)
    assert point["spread"] == pytest.approx((0.5 + 0.0) / 2)  # a group of one scored member has none
    assert point["equal"] == pytest.approx(1 / 2)
    assert point["gated"] == point["truncated"] == point["flagged"] == pytest.approx(1 / 5)
    assert point["tokens"] == pytest.approx((10 + 30 + 10 + 10 + 10) / 5)
    assert point["level"] == pytest.approx(0.25)
    assert point["components"] == {"relative": pytest.approx(3.0 / 5), "reflection": 0.0}
    assert (point["groups"], point["trajectories"], point["errors"]) == (3, 6, 1)


def test_the_badge_counts_whole_groups_groups_in_part_and_failed_ones(keep: Keep):
    page = keep(
        entry("whole", member("1"), member("2")),
        entry("in part", member("1"), member("2", None)),
        entry("failed", member("1", None), member("2", None)),
        entry("waited in vain", member("1"), expected=4),
        entry("whole later", member("1"), step=4),
    )
    assert run_of(page)["completeness"] == {
        "whole": 2, "partial": 2, "failed": 1, "missing": 0, "dropped": 0, "missing_steps": [[1, 3]],
    }  # fmt: skip


def test_a_group_scored_again_for_a_late_member_counts_once(keep: Keep):
    page = keep(
        entry("a", member("1", 0.0), expected=2),
        entry("b", member("1", 1.0), member("2", 1.0), expected=2),
        entry("a", member("1", 0.25, fresh=False), member("2", 0.75), expected=2),
    )
    (point,) = page.series("run")["points"]
    assert (point["groups"], point["trajectories"]) == (2, 4)
    assert point["reward"] == pytest.approx(3.0 / 4)
    assert run_of(page)["completeness"]["whole"] == 2
    assert [one["group_id"] for one in page.groups(asked(), 0, 10)["rows"]] == ["a", "b"]


def test_groups_of_a_refused_request_are_missing_until_they_come(keep: Keep):
    page = keep(entry("a", member("1")))
    page.refused(request_for("b", "c"))
    assert run_of(page)["completeness"]["missing"] == 2
    late = keep_more(page, entry("b", member("1")))
    assert run_of(late)["completeness"]["missing"] == 1


def test_weights_are_as_stale_as_the_steps_since_they_came(keep: Keep):
    page = keep(*(entry("g", member("1"), step=step, weights=str(step // 3)) for step in range(7)))
    assert [point["staleness"] for point in page.series("run")["points"]] == [0, 1, 2, 0, 1, 2, 0]


def test_a_run_without_steps_is_shown_in_the_order_of_arrival_and_stays_short(keep: Keep):
    count = 3 * ARRIVALS + 5
    page = keep(*(entry(str(at), member("1", float(at)), step=None) for at in range(count)))
    series = page.series("run")
    assert series["by"] == "arrival"
    assert len(series["points"]) <= ARRIVALS
    assert sum(point["groups"] for point in series["points"]) == count
    rewards = [point["reward"] for point in series["points"]]
    assert rewards == sorted(rewards)


def test_requests_without_a_run_are_one_run_and_the_pages_own_none(keep: Keep):
    page = keep(
        entry("a", member("1"), run=None),
        entry("b", member("1"), run="unnamed"),
        entry("c", member("1"), run="ask-again"),
    )
    assert [(one["run"], one["groups"]) for one in page.overview()["runs"]] == [("unnamed", 2)]
    assert page.overview()["storage"]["groups"] == 2


def test_runs_are_listed_newest_first(keep: Keep):
    page = keep(
        *(entry("a", member("1"), run=name, time=time) for name, time in (("x", 3.0), ("y", 9.0), ("z", 5.0)))
    )
    assert [one["run"] for one in page.overview()["runs"]] == ["y", "z", "x"]


def asked(**changes):
    from opera_service.ui.queries import Filter

    return Filter(**changes)


def request_for(*groups: str):
    from opera_client.wire import RewardRequest

    one = {"prompt": "p", "reference": "r", "trajectories": [{"response": "x"}]}
    return RewardRequest.model_validate(
        {"run_id": "run", "step": 0, "groups": [{**one, "group_id": name} for name in groups]}
    )


def keep_more(page, *entries):
    for one in entries:
        page.source.write([one])
        page.written()
    return page
