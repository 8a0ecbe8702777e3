"""95 % confidence intervals. Tasks are drawn, not responses: responses to one task resemble each other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap

from opera_trainer.artefacts import Estimate

Floats = NDArray[np.float64]
Kind = Literal["number", "share", "change"]
SEED = 0


def share(hits: int, count: int) -> Estimate | None:
    """Return a share with its Wilson interval; None of nothing."""
    if not count:
        return None
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return Estimate(value=hits / count, low=float(interval.low), high=float(interval.high), count=count)


def mean(
    values: Sequence[float],
    resamples: int,
    *,
    transform: Callable[[Any], Any] = lambda x: x,
    kind: Kind = "number",
) -> Estimate | None:
    """Return the mean over tasks with its bootstrap interval; None of nothing.

    Args:
        values: one a task.
        resamples: of the bootstrap.
        transform: of the mean, applied to the interval, too; monotone.
        kind: a share that was the same in all tasks, or a change of shares that was 0 in all, is not known for
            certain, though no bootstrap shows it: then the interval is Wilson's, on both sides of a change.
    """
    if not values:
        return None
    found = np.asarray(values, dtype=float)
    if kind != "number" and found[0] in (0.0, 1.0) and not np.ptp(found):
        known = share(len(values) * int(found[0]), len(values))
        if known is not None and (kind == "share" or not found[0]):
            return known if kind == "share" else known.model_copy(update={"low": -known.high})
    return _estimate(lambda x, axis=-1: transform(np.mean(x, axis=axis)), (found,), resamples)


def ratio(parts: Sequence[float], wholes: Sequence[float], resamples: int) -> Estimate | None:
    """Return Σ parts / Σ wholes with its bootstrap interval; None when all wholes are 0."""
    if not sum(wholes):
        return None
    kept = [(part, whole) for part, whole in zip(parts, wholes, strict=True) if whole]
    data = tuple(np.asarray(column, dtype=float) for column in zip(*kept, strict=True))
    return _estimate(lambda x, y, axis=-1: x.sum(axis=axis) / y.sum(axis=axis), data, resamples)


def of_tasks(statistic: Callable[[Sequence[int]], float | None], count: int, resamples: int) -> Estimate | None:
    """Return any statistic of tasks, given by position, with its bootstrap interval.

    Args:
        statistic: of some tasks, positions may repeat; None where it is undefined.
        count: of all tasks.
        resamples: draws in which the statistic is undefined are left out.
    """
    value = statistic(range(count)) if count else None
    if value is None:
        return None
    rng = np.random.default_rng(SEED)
    drawn = [statistic(rng.integers(0, count, count).tolist()) for _ in range(resamples)]
    known = [one for one in drawn if one is not None]
    low, high = np.quantile(known, (0.025, 0.975)) if known else (value, value)
    return Estimate(value=value, low=float(low), high=float(high), count=count)


def _estimate(statistic: Callable[..., Any], data: tuple[Floats, ...], resamples: int) -> Estimate:
    value, count = float(statistic(*data)), len(data[0])
    if count == 1 or all(np.ptp(column) == 0 for column in data):
        return Estimate(value=value, low=value, high=value, count=count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        interval = bootstrap(
            data, statistic, paired=True, vectorized=True, n_resamples=resamples, method="percentile",
            rng=np.random.default_rng(SEED),
        ).confidence_interval  # fmt: skip
    return Estimate(value=value, low=float(interval.low), high=float(interval.high), count=count)
