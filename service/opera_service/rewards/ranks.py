"""Comparing the members of one group: ranks, soft ranks and group-centred likelihoods. Pure numpy.

`values` are log-probs of the group's reference, one per trajectory; higher is better.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Ties = Literal["low", "average"]

TRAINED_TOKENS = 8
"""Reference length at which a temperature of 1 nat was trained."""


def hard_rank(values: Values, ties: Ties) -> Values:
    """Return ranks scaled to [0, 1], best = 1; needs at least two values.

    `low` gives tied values the lowest of their places, as the released code does (searchsorted, D12);
    `average` gives them the mean of their places.
    """
    ordered = np.sort(values)
    places = np.searchsorted(ordered, values, side="left").astype(np.float64)
    if ties == "average":
        places = (places + np.searchsorted(ordered, values, side="right") - 1) / 2
    return places / (len(values) - 1)


def soft_rank(values: Values, temperature: float) -> Values:
    """Return the mean over the peers of sigmoid((value - peer) / temperature); needs at least two values."""
    gaps = (values[:, None] - values[None, :]) / temperature
    wins = 0.5 * (1 + np.tanh(gaps / 2))
    return np.asarray((wins.sum(axis=1) - 0.5) / (len(values) - 1))


def best_peer(values: Values) -> Values:
    """Return for each member the best value among the *others*; -inf for a group of one.

    The member's own value is left out so that nothing it gains can devalue what it gained before.
    """
    if len(values) == 1:
        return np.array([-np.inf])
    second, first = np.sort(values)[-2:]
    best = np.full(len(values), first)
    best[np.argmax(values)] = second
    return best


def relative_likelihood(values: Values, temperature: float) -> Values:
    """Return exp((value - best of the group) / temperature): 1 for the best, never all zero."""
    return np.asarray(np.exp((values - values.max()) / temperature))


def auto_temperature(tokens: int) -> float:
    """Return the temperature in nats for a reference of `tokens`: sqrt(tokens / 8), never below 1.

    The sum of `tokens` log-probs is noisy like sqrt(tokens); below 1 nat a difference would count for more
    than the likelihood ratio it is. Only 1 and 4 nats at about 8 tokens were ever trained.
    """
    return max(1.0, float(np.sqrt(tokens / TRAINED_TOKENS)))


def spread_is_noise(values: Values, margin: float, tokens: int) -> bool:
    """Say whether a group carries no information: alone, or its spread is below margin * sqrt(tokens) (D13)."""
    return len(values) == 1 or float(np.ptp(values)) < margin * float(np.sqrt(tokens))
