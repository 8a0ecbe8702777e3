"""The preset `paper` against the released code's own numbers and quirks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from opera_service.rewards.ema import running_mean
from opera_service.rewards.registry import resolve

boundary_logprobs = st.lists(st.floats(-20, 0), min_size=2, max_size=8)


def rising(hand, count, hybrid):
    """`count` paid paragraphs: reflective and each a little better than the one before."""
    steps = [-2.0 + 0.1 * (number + 1) for number in range(count)]
    return hand.thought(*steps, reflective=range(count), hybrid=hybrid)


def test_golden_vector_of_the_released_code(hand):
    group = [rising(hand, count, hybrid) for count, hybrid in enumerate([-2.0, -1.0, -1.0, -0.5])]
    found = hand.Bench().rewards("opera", "paper", group)
    assert found == pytest.approx([0, 0.42348201, 0.63311591, 0.93360378], abs=5e-9)


@pytest.mark.parametrize(
    ("hybrids", "ranks"),
    [
        ([-1.0, -1.0, -1.0, -1.0], [0, 0, 0, 0]),
        ([-2.0, -1.0, -1.0, -0.5], [0, 1 / 3, 1 / 3, 1]),
        ([-3.0], [1.0]),
        ([-1.0, -1.0 + 1e-12], [0, 1]),
    ],
)
def test_ranks_with_ties_low_and_a_group_of_one_at_one(hand, hybrids, ranks):
    found = hand.Bench().rewards("opera", "paper", [hand.Response(hybrid=hybrid) for hybrid in hybrids])
    assert found == pytest.approx([0.3 * rank for rank in ranks])


@given(hybrids=boundary_logprobs)
def test_ranks_agree_with_scipy(hand, hybrids):
    found = hand.Bench().rewards("opera", "paper", [hand.Response(hybrid=hybrid) for hybrid in hybrids])
    assert found == pytest.approx(0.3 * (rankdata(hybrids, "min") - 1) / (len(hybrids) - 1))


@pytest.mark.parametrize(
    ("count", "score"), [(0, 0), (1, 0.4621), (2, 0.7616), (3, 0.9051), (4, 0.9640), (6, 0.9951), (8, 0.9993)]
)
def test_reflection_is_tanh_of_half_the_count(hand, count, score):
    outcome = hand.Bench(bridge=()).price(resolve("opera", "paper", {}), [rising(hand, count, -1.0)])
    assert outcome.trajectories[0].components["reflection"] == pytest.approx(score, abs=5e-5)
    assert [segment.credited for segment in outcome.trajectories[0].segments] == [True] * count


def test_a_gain_is_measured_from_the_previous_paragraph_whatever_that_is(hand):
    # down (plain), up (paid), same (unpaid: the gain must be above 0), up (plain, unpaid)
    response = hand.thought(-3.0, -2.5, -2.5, -1.0, reflective=(1, 2))
    outcome = hand.Bench(bridge=()).price(resolve("opera", "paper", {}), [response])
    segments = outcome.trajectories[0].segments
    assert [segment.credited for segment in segments] == [False, True, False, False]
    assert [segment.gain for segment in segments] == pytest.approx([-1.0, 0.5, 0.0, 1.5])


def test_the_price_is_taken_after_the_whole_response_and_the_gains_are_not(hand):
    outcome = hand.Bench(bridge=()).price(
        resolve("opera", "paper", {}), [hand.thought(-1.5, hybrid=-0.25), hand.thought(-0.5, hybrid=-0.75)]
    )
    assert [one.token_logprobs.mean() for one in outcome.trajectories] == pytest.approx([-0.25, -0.75])
    assert [one.segments[0].mean_logprob for one in outcome.trajectories] == pytest.approx([-1.5, -0.5])
    assert [one.components["relative"] for one in outcome.trajectories] == [1, 0]


def test_improvement_is_an_optional_metric(hand):
    config = {"total": {"improvement": 0}}
    outcome = hand.Bench(bridge=(), initial=-2.0).price(
        resolve("opera", "paper", config), [hand.Response(hybrid=-1.0), hand.Response(hybrid=-2.0)]
    )
    improvements = [one.components["improvement"] for one in outcome.trajectories]
    assert improvements == pytest.approx([1 / (1 + np.exp(-0.8)), 0.5])
    assert [one.reward for one in outcome.trajectories] == pytest.approx([0.3, 0])


@given(hybrids=boundary_logprobs, steps=st.lists(st.floats(-20, 0), max_size=5))
def test_the_running_mean_cannot_change_the_reward(hand, hybrids, steps):
    config = resolve("opera", "paper", {}).config
    mean = running_mean(running_mean(None, [-3.0], config.ema), hybrids, config.ema)

    def smooth(values):
        """The authors' map: four fifths of a log-prob and one of the mean."""
        return [0.8 * float(value) + 0.2 * mean for value in values]

    def group(prices, own):
        return [hand.thought(*own, reflective=range(9), hybrid=price) for price in prices]

    plain = hand.Bench(initial=-2.0).rewards("opera", "paper", group(hybrids, steps))
    smoothed = hand.Bench(initial=smooth([-2.0])[0]).rewards(
        "opera", "paper", group(smooth(hybrids), smooth(steps))
    )
    # Two prices closer than rounding may become equal; the map itself cannot reorder.
    if len(set(smooth(hybrids))) == len(set(hybrids)) and np.abs(np.diff([-2.0, *steps])).min(initial=1) > 1e-9:
        assert smoothed == pytest.approx(plain)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        (r"so \boxed{4}", "4", True),
        (r"\boxed{3} or \boxed{ 4 }", " 4\n", True),
        ("4", "4", True),  # no box: the whole answer is compared
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", False),  # cut at the first brace
        (r"\boxed{0.5}", r"1/2", False),  # strings, not numbers
    ],
)
def test_math_is_right_or_wrong_by_the_released_expression(hand, answer, reference, right):
    bench = hand.Bench(task="math", reference=reference, bridge=())
    response = hand.thought(-1.0, reflective=(0,), answer=answer)
    outcome = bench.price(resolve("opera", "paper", {}), [response]).trajectories[0]
    assert outcome.reward == float(right)
    assert outcome.components == pytest.approx(
        {"relative": 1.0, "reflection": np.tanh(0.5)} if right else {"relative": 0.0, "reflection": 0.0}
    )
    assert outcome.flags == ("outcome_correct" if right else "outcome_wrong",)
