"""Log-probabilities of one text as the numbers that answers give: their sum, their mean, its perplexity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def total_and_mean(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the sum and the mean of a non-empty array, added up in float64."""
    total = float(values.sum(dtype=np.float64))
    return total, total / len(values)


def perplexity(mean_logprob: float) -> float | None:
    """Return exp(-mean_logprob); None when that is beyond a float, as JSON has no infinity."""
    try:
        return math.exp(-mean_logprob)
    except OverflowError:
        return None
