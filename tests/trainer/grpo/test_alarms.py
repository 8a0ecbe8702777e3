"""Alarms: what rings, and what does not ring by chance."""

import random

from opera_trainer.artefacts import LogEntry
from opera_trainer.grpo.alarms import alarms


def log(**series):
    """Steps of a training; a series is a function of the step."""
    return [
        LogEntry(
            step=step, split="train", metrics={name.replace("__", "/"): of(step) for name, of in series.items()}
        )
        for step in range(30)
    ]


def noisy(slope):
    rng = random.Random(4)
    values = [slope * step + rng.gauss(0, 0.05) for step in range(30)]
    return lambda step: values[step]


def test_a_quiet_training_rings_nothing():
    found = log(
        frac_reward_zero_std=lambda _: 0.1,
        opera__value=noisy(0.02),
        watched__chrf=noisy(0.02),
        completions__mean_length=lambda _: 80.0,
        completions__clipped_ratio=lambda _: 0.2,
    )
    assert alarms(found) == {}
    assert alarms([]) == {}


def test_shares_of_the_last_steps_ring():
    rising = log(frac_reward_zero_std=lambda s: s / 29, opera__flag__format_gate=lambda s: s / 29)
    assert set(alarms(rising)) == {"equal groups", "gated"}
    assert alarms(rising[:10]) == {}
    assert set(alarms(log(completions__clipped_ratio=lambda _: 0.9))) == {"cut off"}


def test_length_that_drifts_either_way_rings():
    assert set(alarms(log(completions__mean_length=lambda s: 50.0 + 3 * s))) == {"length"}
    assert set(alarms(log(completions__mean_length=lambda s: 150.0 - 4 * s))) == {"length"}


def test_a_judge_that_falls_while_the_reward_rises_rings_and_noise_does_not():
    assert "hacked" in alarms(log(opera__value=noisy(0.02), watched__chrf=noisy(-0.02)))
    assert "hacked" not in alarms(log(opera__value=noisy(0.02), watched__chrf=noisy(0.0)))
    assert "hacked" not in alarms(log(opera__value=noisy(-0.02), watched__chrf=noisy(-0.02)))
