"""What must hold for rewards on the policy's own certainty, whatever the numbers are."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.rewards.policy_tokens import Member, PolicyNumbers
from opera_service.rewards.registry import resolve
from opera_service.rewards.repetition import LOOP, repetition

LOOPING = "the sea is grey and so it is, " * 30
entropies = st.lists(st.floats(0, 12), min_size=1, max_size=30)
groups = st.lists(entropies, min_size=1, max_size=5)


@pytest.fixture(scope="session")
def members(hand):
    """Members of a group whose tokens have these entropies; the log-prob of a token is minus its entropy."""

    def of(levels, valid=None):
        group, _ = hand.Bench().group([hand.thought(-1.0) for _ in levels])
        found = []
        for at, (one, level) in enumerate(zip(group.trajectories, levels, strict=True)):
            tokens = replace(
                one.policy,
                ids=np.arange(len(level), dtype=np.int32),
                written=((0, len(level)),),
                thoughts=((0, len(level) // 2),),
                answers=((len(level) // 2, len(level)),),
            )
            numbers = PolicyNumbers(tokens, -np.array(level), np.array(level))
            found.append(Member(replace(one, segments=()), numbers, valid is None or valid[at], ()))
        return group, found

    return of


def rewarded(name, made, preset="paper", config=None):
    group, found = made
    return resolve(name, preset, config or {}).rewarded(group, found)


@given(levels=groups)
@pytest.mark.parametrize("name", ["rent", "pear", "high_entropy", "empg"])
def test_the_order_of_members_changes_nothing(members, name, levels):
    ahead = rewarded(name, members(levels)).trajectories
    back = rewarded(name, members(levels[::-1])).trajectories[::-1]
    for one, other in zip(ahead, back, strict=True):
        assert one.reward == pytest.approx(other.reward)
        assert one.components == pytest.approx(other.components)
        if one.token_weights is not None:
            assert one.token_weights == pytest.approx(other.token_weights)


@given(levels=entropies, more=st.floats(0.01, 3))
def test_more_entropy_is_less_reward(members, levels, more):
    shaped = members([levels, [level + more for level in levels]])
    certain, unsure = rewarded("rent", shaped).trajectories
    assert unsure.reward == pytest.approx(certain.reward - more)


@given(levels=groups, share=st.floats(0.05, 1))
def test_the_share_of_tokens_kept_is_the_share_asked_for(members, levels, share):
    found = rewarded("high_entropy", members(levels), config={"share": share})
    pooled = np.concatenate(levels)
    kept = np.concatenate([one.token_weights for one in found.trajectories]).astype(bool)
    assert set(np.unique(kept)) <= {False, True}
    assert kept.sum() >= np.floor(share * (len(pooled) - 1)) + 1 - 1e-9 or kept.all()
    if kept.any() and not kept.all():
        assert pooled[kept].min() >= pooled[~kept].max()


@given(levels=groups)
def test_empg_weights_average_to_one_over_steps(members, levels):
    found = rewarded("empg", members(levels)).trajectories
    weights = [one.token_weights[0] for one in found]  # one step each
    assert np.mean(weights) == pytest.approx(1)
    assert all((one.token_rewards == 0).all() for one in found)
    order = np.argsort([np.mean(level) for level in levels], kind="stable")
    assert all(weights[a] >= weights[b] - 1e-9 for a, b in pairwise(order))


@given(thought=st.floats(0, 10), answer=st.floats(0, 10), alpha=st.floats(0, 2))
def test_pear_never_pays_more_than_its_base(members, thought, answer, alpha):
    levels = [[thought] * 4 + [answer] * 4]
    (one,) = rewarded("pear", members(levels), config={"alpha": alpha}).trajectories
    assert one.reward == pytest.approx(min(1, 1 - max(0, thought - alpha * answer)))


def test_what_the_guards_do_not_pay_is_the_worst_and_sets_no_threshold(members):
    levels = [[9.0] * 10, [1.0, 2.0, 3.0, 4.0, 5.0]]
    made = members(levels, valid=[False, True])
    assert [one.reward for one in rewarded("rent", made, "hardened").trajectories] == [-10, -3]
    assert rewarded("pear", made, "hardened").trajectories[0].reward == 0
    shaped = rewarded("high_entropy", made, "hardened")
    assert shaped.diagnostics["threshold"] == pytest.approx(np.quantile(levels[1], 0.8))


def test_a_loop_is_certain_and_is_not_paid(hand):
    assert repetition(LOOPING) > LOOP
    bench = hand.Bench()
    group, prices = bench.group([hand.thought(-1.0, own=-0.01), hand.thought(-1.0, own=-0.5)])
    looped = replace(group.trajectories[0], text=LOOPING)
    group = replace(group, trajectories=(looped, group.trajectories[1]))
    paper, hardened = (bench.read(resolve("rent", preset, {}), group, prices) for preset in ("paper", "hardened"))
    assert paper.trajectories[0].reward > paper.trajectories[1].reward
    assert hardened.trajectories[0].reward < hardened.trajectories[1].reward
    assert hardened.trajectories[0].flags == ("loop",)


def test_a_loop_that_is_shown_as_another_text_is_not_paid_either(hand):
    """The ids are scored, so what they say is what is guarded."""
    bench = hand.Bench()
    group, prices = bench.group([hand.thought(-1.0, own=-0.01), hand.thought(-1.0, own=-0.5)])
    hidden, told = (replace(group.trajectories[0], decoded=said) for said in (LOOPING, "the sea is grey"))
    told = replace(told, text=LOOPING)
    for looped, flags in ((hidden, ("loop",)), (told, ())):
        asked = replace(group, trajectories=(looped, group.trajectories[1]))
        assert bench.read(resolve("rent", "hardened", {}), asked, prices).trajectories[0].flags == flags
