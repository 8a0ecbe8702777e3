"""Differences between then and now, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.audit.changes import WORST, Changes
from opera_service.audit.rescore import Numbers, Pair, RescoredGroup


def numbers(reward: float | None) -> Numbers | None:
    return None if reward is None else Numbers(reward, 2 * reward, {"part": -reward})


def group(*rewards: tuple[float | None, float | None], why: str | None = None, **changes) -> RescoredGroup:
    pairs = [Pair(str(at), numbers(then), numbers(now), why) for at, (then, now) in enumerate(rewards)]
    given = {"run_id": "r", "step": 1, "group_id": "g", "then": "old", "now": "new", "same_config": True}
    return RescoredGroup(**{**given, **changes}, pairs=pairs)


def test_by_hand():
    changes = Changes()
    changes.add(group((1.0, 0.5), (0.0, 0.25), (0.5, 0.5)))
    changes.add(group((1.0, 0.0), (0.0, 1.0), same_config=False, now="newer"))
    assert (changes.groups, changes.compared, changes.changed, changes.other_config) == (2, 5, 4, 1)
    reward = changes.series["reward"]
    assert reward.change == pytest.approx((-0.5 + 0.25 + 0 - 1 + 1) / 5)
    assert reward.distance == pytest.approx(2.75 / 5)
    assert reward.largest == 1.0
    assert changes.series["mean_logprob"].largest == 2.0
    assert changes.series["part"].change == pytest.approx(0.25 / 5)
    # of (1, 0, .5) -> (.5, .25, .5) the pair (1, .5) is equal now; of (1, 0) -> (0, 1) the one pair is turned
    assert (changes.pairs, changes.turned) == (4, 2)
    assert (changes.best_groups, changes.best_kept) == (2, 1)
    assert [(one.then, one.now) for one in changes.worst] == [(1.0, 0.0), (0.0, 1.0), (1.0, 0.5), (0.0, 0.25)]
    assert (changes.then, changes.now) == ({"old": 2}, {"new": 1, "newer": 1})


def test_errors_are_counted_not_compared():
    changes = Changes()
    changes.add(group((1.0, None), (None, 2.0), (None, None), why="context_too_long"))
    changes.add(group((1.0, None), why="texts_not_kept", now=None))
    assert changes.missing == {"context_too_long": 1, "recovered": 1, "texts_not_kept": 1}
    assert (changes.compared, changes.series, changes.now) == (0, {}, {"new": 1})


def test_a_difference_within_the_tolerance_is_none():
    changes = Changes(tolerance=0.1)
    changes.add(group((1.0, 1.05), (0.95, 2.0), (0.0, 0.0)))  # the first two were equal, so neither was best
    assert (changes.changed, changes.pairs, changes.turned, changes.best_groups) == (1, 2, 0, 0)


def test_the_best_may_share_its_place_now():
    changes = Changes()
    changes.add(group((1.0, 0.5), (0.0, 0.5)))
    assert (changes.best_groups, changes.best_kept, changes.turned) == (1, 1, 1)


@given(st.lists(st.lists(st.floats(-2, 2), min_size=1, max_size=4), max_size=20))
def test_nothing_changes_when_nothing_changed(rewards):
    changes = Changes()
    for one in rewards:
        changes.add(group(*((reward, reward) for reward in one)))
    assert (changes.changed, changes.turned, changes.worst) == (0, 0, [])
    assert changes.best_kept == changes.best_groups


@given(st.lists(st.floats(-2, 2), max_size=40))
def test_the_worst_are_the_largest(rewards):
    changes = Changes()
    for reward in rewards:
        changes.add(group((0.0, reward)))
    sizes = sorted((abs(reward) for reward in rewards if abs(reward) > 1e-6), reverse=True)
    assert [abs(one.now) for one in changes.worst] == sizes[:WORST]
