"""What a stage changed, task by task, with bootstrap intervals, as it is and at equal length. Pure numpy.

At equal length: an answer's length is worth `slope` of the metric for each e-fold, estimated inside
groups, between answers of one model to one question. The change of length times the slope is taken off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opera_trainer.artefacts import Estimate

SEED = 0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """One answer: the metric and its length in tokens."""

    value: float
    tokens: int


Answers = Mapping[str, Sequence[Scored]]
"""Task → answers of one model."""


def change(before: Answers, after: Answers, resamples: int) -> Estimate | None:
    """Return the mean change over the tasks of both; None without any."""
    tasks = _both(before, after)
    if not tasks:
        return None
    changes = np.array([_mean(after[task]) - _mean(before[task]) for task in tasks])
    return _estimate(changes[None], np.ones((1, len(tasks))), resamples, _plain)


def change_at_equal_length(before: Answers, after: Answers, resamples: int) -> Estimate | None:
    """Return the mean change without what length is worth; None where no group tells what it is worth."""
    tasks = _both(before, after)
    if not tasks:
        return None
    changes = np.array([_mean(after[task]) - _mean(before[task]) for task in tasks])
    longer = np.array([_length(after[task]) - _length(before[task]) for task in tasks])
    products, squares = np.array([_within(before[task], after[task]) for task in tasks]).T
    if squares.sum() <= 0:
        return None
    return _estimate(np.stack([changes, longer]), np.stack([products, squares]), resamples, _without_length)


def _both(before: Answers, after: Answers) -> list[str]:
    return sorted(task for task in before.keys() & after.keys() if before[task] and after[task])


def _mean(answers: Sequence[Scored]) -> float:
    return float(np.mean([one.value for one in answers]))


def _length(answers: Sequence[Scored]) -> float:
    return float(np.mean([np.log(1 + one.tokens) for one in answers]))


def _within(*groups: Sequence[Scored]) -> tuple[float, float]:
    """Return Σ of length times value and Σ of squared length, both from their group's mean."""
    products = squares = 0.0
    for group in groups:
        values = np.array([one.value for one in group])
        lengths = np.log(1 + np.array([one.tokens for one in group], dtype=float))
        products += float((lengths - lengths.mean()) @ (values - values.mean()))
        squares += float(((lengths - lengths.mean()) ** 2).sum())
    return products, squares


def _plain(means: Floats, _: Floats) -> Floats:
    found: Floats = means[0]
    return found


def _without_length(means: Floats, sums: Floats) -> Floats:
    slope = np.divide(sums[0], sums[1], out=np.zeros_like(sums[0]), where=sums[1] > 0)
    found: Floats = means[0] - slope * means[1]
    return found


def _estimate(averaged: Floats, summed: Floats, resamples: int, statistic) -> Estimate:  # type: ignore[no-untyped-def]
    """Bootstrap over tasks, the last axis; `statistic` is of means of `averaged` and sums of `summed`."""
    count = averaged.shape[1]
    drawn = np.random.default_rng(SEED).integers(0, count, (resamples, count))
    value = float(statistic(averaged.mean(1), summed.sum(1)))
    draws = statistic(averaged[:, drawn].mean(2), summed[:, drawn].sum(2))
    low, high = np.quantile(draws, (0.025, 0.975))
    return Estimate(value=value, low=float(low), high=float(high), count=count)
