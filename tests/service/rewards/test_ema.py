"""The running mean, by hand."""

import pytest

from opera_service.rewards.config import EmaRules
from opera_service.rewards.ema import RunningMean, step_logprobs
from opera_service.rewards.registry import resolve


def test_it_starts_at_the_first_mean_and_moves_by_alpha():
    mean = RunningMean(EmaRules())
    assert mean.update([-1.0, -3.0]) == -2.0
    assert mean.update([-1.0]) == pytest.approx(0.1 * -1 + 0.9 * -2)
    assert mean.smooth([-1.9, 0.0]) == pytest.approx([-1.9, 0.2 * -1.9])


def test_an_empty_step_answers_zero_and_changes_nothing():
    mean = RunningMean(EmaRules())
    assert mean.update([]) == 0.0
    assert mean.value is None
    mean.update([-2.0])
    assert mean.update([]) == 0.0
    assert mean.value == -2.0


def test_smoothing_before_the_first_update_is_refused():
    with pytest.raises(ValueError, match="update"):
        RunningMean(EmaRules()).smooth([-1.0])


def test_a_step_holds_final_initial_and_segment_log_probs_of_every_trajectory(hand):
    bench = hand.Bench(bridge=(), initial=-2.0)
    outcome = bench.price(
        resolve("opera", "paper", {}), [hand.thought(-1.5, -1.25, hybrid=-1.0), hand.Response(hybrid=-0.5)]
    )
    assert step_logprobs([outcome, outcome]) == [-1.0, -2.0, -1.5, -1.25, -0.5, -2.0] * 2
