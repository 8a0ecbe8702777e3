"""The running mean, by hand."""

import pytest

from opera_service.rewards.config import EmaRules
from opera_service.rewards.ema import running_mean, step_logprobs
from opera_service.rewards.registry import resolve


def test_it_starts_at_the_first_mean_and_moves_by_alpha():
    first = running_mean(None, [-1.0, -3.0], EmaRules())
    assert first == -2.0
    assert running_mean(first, [-1.0], EmaRules()) == pytest.approx(0.1 * -1 + 0.9 * -2)


@pytest.mark.parametrize("before", [None, -2.0])
def test_an_empty_step_changes_nothing(before):
    assert running_mean(before, [], EmaRules()) == before


def test_a_step_holds_final_initial_and_segment_log_probs_of_every_trajectory(hand):
    bench = hand.Bench(bridge=(), initial=-2.0)
    outcome = bench.price(
        resolve("opera", "paper", {}), [hand.thought(-1.5, -1.25, hybrid=-1.0), hand.Response(hybrid=-0.5)]
    )
    assert step_logprobs([outcome, outcome]) == [-1.0, -2.0, -1.5, -1.25, -0.5, -2.0] * 2
