"""Rolling numbers of runs: hand-computed, bounded, and the same whatever the order of other runs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.budget import examples

from opera_service.observability.run_health import (
    BASELINE,
    HACKING,
    NAME_CHARS,
    OTHER,
    RECENT,
    UNNAMED,
    RunHealth,
    Seen,
)
from opera_service.observability.run_metrics import RunMetrics


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_numbers_by_hand():
    health = RunHealth(Clock())
    health.add("run", [Seen(0.0, 10), Seen(1.0, 30, ("think_unclosed", "repetition"))])
    health.add("run", [Seen(0.5, 20, ("empty_answer",)), Seen(0.5, 20, ("think_missing", "empty_answer"))])
    health.add("run", [Seen(2.0, 40)])  # a group of one has no spread
    numbers = health.snapshot()["run"]
    assert numbers.trajectories == 5
    assert numbers.reward_mean == pytest.approx(0.8)
    assert numbers.reward_spread == pytest.approx(0.25)  # 0.5 and 0
    assert numbers.equal_groups == 0.5
    assert numbers.truncated == pytest.approx(3 / 5)
    assert numbers.thinkless == pytest.approx(1 / 5)
    assert numbers.response_tokens == 24
    assert numbers.length_ratio is None
    assert numbers.flagged == {flag: 0.2 if flag == "repetition" else 0.0 for flag in HACKING}


def test_the_window_forgets():
    health = RunHealth(Clock(), window=3)
    for reward in (9.0, 9.0, 1.0, 2.0, 3.0):
        health.add("run", [Seen(reward, 1)])
    assert health.snapshot()["run"].reward_mean == 2.0


def test_members_that_come_late_do_not_count_their_group_again():
    health = RunHealth(Clock())
    health.add("run", [Seen(0.0, 1), Seen(1.0, 1)])
    health.add("run", [Seen(0.3, 1), Seen(0.3, 1)], whole=False)
    numbers = health.snapshot()["run"]
    assert (numbers.trajectories, numbers.reward_spread, numbers.equal_groups) == (4, 0.5, 0.0)


def grow(health: RunHealth, count: int, tokens: int) -> list[bool]:
    """Tell the run of responses, one a group; return which of them drifted."""
    drifted = []
    for _ in range(count):
        drifted += health.drifted("run", [[tokens]])[0]
        health.add("run", [Seen(0.0, tokens)])
    return drifted


@pytest.mark.parametrize(("later", "drifts"), [(200, True), (199, False), (50, True), (51, False), (100, False)])
def test_length_drift_needs_twice_or_half_the_length_for_long(later, drifts):
    health = RunHealth(Clock())
    assert set(grow(health, BASELINE, 100) + grow(health, RECENT, later)) == {False}
    assert health.snapshot()["run"].length_ratio == pytest.approx(later / 100)
    assert grow(health, 1, later) == [drifts]


def test_in_a_run_that_drifts_only_those_that_went_along_are_flagged():
    health = RunHealth(Clock())
    grow(health, BASELINE, 100)
    grow(health, RECENT, 300)
    assert health.drifted("run", [[300, 100, 20]]) == [[True, False, False]]
    assert health.drifted("another", [[300]]) == [[False]]


def test_asking_changes_nothing_and_groups_are_judged_one_after_the_other():
    health = RunHealth(Clock())
    together = [[100]] * BASELINE + [[300]] * (RECENT + 1)
    assert health.drifted("run", together) == [[False]] * (BASELINE + RECENT) + [[True]]
    assert health.snapshot() == {}
    assert health.drifted("run", [[300]]) == [[False]]


def test_a_run_without_a_place_is_judged_by_the_rest():
    clock = Clock()
    health = RunHealth(clock, max_runs=1, idle_s=60)
    health.add("first", [Seen(0.0, 1)])
    for tokens in [100] * BASELINE + [300] * RECENT:
        health.add("second", [Seen(0.0, tokens)])
    assert health.drifted("third", [[300]]) == health.drifted(OTHER, [[300]]) == [[True]]
    assert health.drifted("first", [[300]]) == [[False]]
    clock.now = 60.0  # the first run is over, so that the third would get its place
    assert health.drifted("third", [[300]]) == [[False]]


def test_one_long_response_is_no_drift():
    health = RunHealth(Clock())
    grow(health, BASELINE + RECENT, 100)
    assert grow(health, 1, 5000) == [False]


def test_names_are_bounded_and_the_rest_is_other():
    clock = Clock()
    health = RunHealth(clock, max_runs=2, idle_s=60)
    for name in ("a", "b", "c", "d"):
        health.add(name, [Seen(1.0, 1)])
    assert {name: one.trajectories for name, one in health.snapshot().items()} == {"a": 1, "b": 1, OTHER: 2}
    clock.now = 59.0
    health.add("a", [Seen(1.0, 1)])
    clock.now = 60.0  # b has been silent for long enough, a has not
    health.add("c", [Seen(1.0, 1)])
    health.add("d", [Seen(1.0, 1)])
    assert {name: one.trajectories for name, one in health.snapshot().items()} == {"a": 2, "c": 1, OTHER: 3}


def test_one_place_is_enough_for_one_run():
    health = RunHealth(Clock(), max_runs=1)
    health.add(None, [Seen(1.0, 1)])
    health.add(None, [Seen(1.0, 1)])
    assert {name: one.trajectories for name, one in health.snapshot().items()} == {UNNAMED: 2}


def test_a_run_called_other_and_a_long_name_cannot_take_more_than_one_place():
    health = RunHealth(Clock(), max_runs=2)
    health.add(OTHER, [Seen(1.0, 1)])
    health.add("x" * 9000, [Seen(1.0, 1)])
    health.add("x" * 9001, [Seen(1.0, 1)])
    assert {name: one.trajectories for name, one in health.snapshot().items()} == {OTHER: 1, "x" * NAME_CHARS: 2}


@settings(deadline=None, max_examples=examples(50))
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 100), st.floats(-5, 5)), max_size=60))
def test_nothing_is_lost_and_never_more_than_the_places_are_named(events):
    clock = Clock()
    health = RunHealth(clock, max_runs=3, idle_s=50)
    for name, wait, reward in events:
        clock.now += wait
        health.add(name, [Seen(reward, 1)])
    numbers = health.snapshot()
    assert len(set(numbers) - {OTHER}) <= 3
    assert sum(one.trajectories for one in numbers.values()) <= len(events)
    for one in numbers.values():
        assert -5 <= one.reward_mean <= 5


def test_the_collector_leaves_out_what_is_not_known():
    health = RunHealth(Clock())
    health.add("run", [Seen(1.0, 7)])
    families = {family.name: family.samples for family in RunMetrics(health.snapshot).collect()}
    assert families["opera_run_length_ratio"] == []
    assert families["opera_run_reward_spread"] == []
    assert [(one.labels, one.value) for one in families["opera_run_response_tokens"]] == [({"run": "run"}, 7.0)]
    assert {one.labels["flag"] for one in families["opera_run_flagged_ratio"]} == set(HACKING)
