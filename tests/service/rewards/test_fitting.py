"""Plans of groups of which some do not fit the model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.rewards.fitting import plan_fitting
from opera_service.rewards.registry import resolve
from opera_service.scoring.tree import TreeBuilder

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def group_of(hand, sizes):
    """Members with thoughts of so many tokens, the first of them wrong."""
    bench = hand.Bench(task="math", reference="42", reference_tokens=2)
    responses = [
        hand.Response((hand.Paragraph(f"so {at}", -1.0, tokens=size),), outcome=at > 0)
        for at, size in enumerate(sizes)
    ]
    return bench.group(responses)[0]


def length(reward, group, places) -> int:
    builder = TreeBuilder()
    reward.plan(group.only(places), builder)
    return builder.build().longest


@given(sizes=SIZES, longest=st.integers(4, 24))
@pytest.mark.parametrize("name", ["rent", "sar", "opera", "implicit_prm", "cepo"])
def test_those_who_fit_are_planned_and_nobody_else(hand, name, sizes, longest):
    reward, group = resolve(name, "hardened", {}), group_of(hand, sizes)
    found = plan_fitting(reward, group, longest)
    kept = [at for at in range(len(sizes)) if at not in found.errors]
    assert [one.id for one in found.group.trajectories] == [str(at) for at in kept]
    assert found.length <= longest
    assert (found.tree is not None) == bool(kept)
    for error in found.errors.values():
        assert name in error.message
        assert f"the model takes {longest}" in error.message
    if kept:
        assert length(reward, group, kept) == found.length
    if name != "cepo":  # its members stand behind one another's answers
        assert kept == [at for at in range(len(sizes)) if length(reward, group, [at]) <= longest]


def test_only_whoever_does_not_fit_behind_the_others_answer_is_left_out(hand):
    reward = resolve("cepo", "hardened", {})
    group = group_of(hand, [3, 9, 5])
    alone = [length(reward, group, [at]) for at in range(3)]
    assert length(reward, group, [0, 1, 2]) == max(alone)  # the evidence is shorter than the reference here
    found = plan_fitting(reward, group, max(alone) - 1)
    assert list(found.errors) == [1]


def test_a_reward_that_reads_no_log_probs_fits(hand):
    found = plan_fitting(resolve("ttrl", "hardened", {}), group_of(hand, [3, 4]), 1)
    assert (found.tree, found.errors, len(found.group.trajectories)) == (None, {}, 2)
