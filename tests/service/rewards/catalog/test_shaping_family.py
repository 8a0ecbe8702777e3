"""What holds of every shaping and log-ratio reward, whatever the numbers are."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_service.rewards.registry import resolve

LEVELS = st.lists(st.tuples(st.floats(-6, -0.01), st.integers(1, 30), st.booleans()), min_size=2, max_size=6)
NAMES = ("steer", "clip_cov", "ares", "cde", "prl", "selfie", "implicit_prm")


def wave(tokens):
    return 0.3 * np.sin(np.arange(tokens))


def priced(hand, name, levels, preset="hardened", config=None):
    """Members by the mean log-prob of their tokens, the thought's length, and whether they are right."""
    bench = hand.Bench(task="math", reference="42", shape=wave)
    responses = [
        hand.Response((hand.Paragraph(f"so {at}", -1.0, tokens=tokens),), own=own, outcome=right)
        for at, (own, tokens, right) in enumerate(levels)
    ]
    return bench.price(resolve(name, preset, config or {}), responses).trajectories


def told(one):
    arrays = (one.token_weights, one.token_rewards)
    return [one.reward, *(value for array in arrays if array is not None for value in array)]


@given(levels=LEVELS, data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_members_changes_nothing(hand, name, levels, data):
    order = data.draw(st.permutations(range(len(levels))))
    plain = priced(hand, name, levels)
    moved = priced(hand, name, [levels[at] for at in order])
    if name == "clip_cov":  # equal covariances: whose token it is may depend on the order, how many may not
        assert sum(told(one).count(0.0) for one in plain) == sum(told(one).count(0.0) for one in moved)
        return
    for at, one in zip(order, moved, strict=True):
        assert told(one) == pytest.approx(told(plain[at]), abs=1e-9)


@given(levels=LEVELS)
def test_steer_stays_in_its_band_and_leaves_a_group_without_contrast_alone(hand, levels):
    for one in priced(hand, "steer", levels):
        assert all(0.8 - 1e-12 <= weight <= 1 for weight in one.token_weights)
    same = [(own, tokens, True) for own, tokens, _ in levels]
    assert {weight for one in priced(hand, "steer", same) for weight in one.token_weights} == {1.0}


@given(levels=LEVELS, share=st.floats(0.001, 0.5))
def test_clip_cov_takes_no_more_than_its_share_and_nothing_from_a_group_without_contrast(hand, levels, share):
    config = {"share": share, "low": 0.0}
    for preset in ("paper", "hardened"):
        weights = [w for one in priced(hand, "clip_cov", levels, preset, config) for w in one.token_weights]
        assert set(weights) <= {0.0, 1.0}
        assert weights.count(0.0) <= max(1, share * len(weights))
    same = [(own, tokens, False) for own, tokens, _ in levels]
    assert {w for one in priced(hand, "clip_cov", same, config=config) for w in one.token_weights} == {1.0}


@given(levels=LEVELS, eta=st.floats(0.1, 1000))
def test_prl_telescopes_to_the_tokens_own_ratios(hand, levels, eta):
    fine = priced(hand, "prl", levels, "paper", {"step_tokens": 1, "eta": eta})
    ratios = priced(hand, "implicit_prm", levels, "paper", {"pay": "steps", "steps": "tokens", "beta": 1.0})
    for one, other in zip(fine, ratios, strict=True):
        steps = [-(left - right) * eta for left, right in pairwise([*one.token_rewards, 0.0])]
        assert steps == pytest.approx(other.token_rewards.tolist(), abs=1e-6)


@given(levels=LEVELS, eta=st.floats(0.01, 1000), cost=st.floats(0, 5), gain=st.floats(0, 5))
def test_prl_is_bounded_both_ways(hand, levels, eta, cost, gain):
    free = {"eta": eta, "most_cost": None, "most_gain": None, "step_tokens": 3}
    for limits in ({"most_cost": cost, "most_gain": gain}, {}):
        least, most = -limits.get("most_cost", 3.0), limits.get("most_gain", 0.0)
        plain, bounded = (
            priced(hand, "prl", levels, config=free),
            priced(hand, "prl", levels, config=free | limits),
        )
        if not limits:
            bounded = priced(hand, "prl", levels, config={"eta": eta, "step_tokens": 3})
        for one, other in zip(bounded, plain, strict=True):
            assert one.token_rewards == pytest.approx(np.clip(other.token_rewards, least, most), abs=1e-12)


@given(levels=LEVELS)
def test_steps_of_any_size_share_the_whole(hand, levels):
    whole = priced(hand, "implicit_prm", levels, "paper")
    for steps in ("tokens", "segments", "turns"):
        paid = priced(hand, "implicit_prm", levels, "paper", {"pay": "steps", "steps": steps})
        for one, other in zip(paid, whole, strict=True):
            assert float(one.token_rewards.sum()) == pytest.approx(other.reward, abs=1e-9)


@given(levels=LEVELS)
def test_preferences_of_a_group_add_up_to_half_of_it(hand, levels):
    rewards = [one.reward for one in priced(hand, "selfie", levels, "paper")]
    assert sum(rewards) == pytest.approx(len(levels) / 2)


def test_a_cheat_changes_no_threshold(hand):
    levels = [(-1.0, 20, True), (-2.0, 20, False), (-1.5, 20, True)]
    bench = hand.Bench(task="math", reference="42", shape=wave)
    responses = [
        hand.Response((hand.Paragraph(f"so {at}", -1.0, tokens=tokens),), own=own, outcome=right)
        for at, (own, tokens, right) in enumerate(levels)
    ]
    loop = hand.Response(
        (hand.Paragraph("no end", -1.0, tokens=20),), own=-6.0, outcome=False, flags=("think_unclosed",)
    )
    found = bench.price(resolve("steer", "hardened", {}), [*responses, loop])
    paper = bench.price(resolve("steer", "paper", {}), [*responses, loop])
    assert found.diagnostics["largest_change"] < paper.diagnostics["largest_change"]
