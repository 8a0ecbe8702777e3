"""What segments did to the reference's log-prob: gains, the calibrated margin, the potential gain. Numpy only.

`boundary_logprobs` are its log-probs after 0, 1, … segments of one trajectory; entry 0 is before any thought.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


def step_gains(boundary_logprobs: Values) -> Values:
    """Return each segment's level minus the previous one's (released code)."""
    return np.diff(boundary_logprobs)


def running_maximum_gains(boundary_logprobs: Values) -> Values:
    """Return each segment's level minus the best before it, the initial one included (closes D16)."""
    return np.asarray(boundary_logprobs[1:] - np.maximum.accumulate(boundary_logprobs)[:-1])


def squashed_count(credited: Mask, scale: float) -> float:
    """Return tanh(number of credited segments / scale) (released code, scale 2)."""
    return float(np.tanh(np.count_nonzero(credited) / scale))


def potential_gain(sums: Values, credited: Mask, ceiling: float, temperature: float) -> float:
    """Return the likelihood that credited segments won, in proportion to where the thought ended; in [0, 1].

    With q_k = exp(min(0, sum_k - ceiling) / temperature) this is q_S times the sum, over credited segments, of
    what q_k rises above every earlier q. Cutting one rise into many pieces changes nothing: it telescopes (D17).

    Args:
        sums: log-probs of the whole reference, in nats, after 0 … S segments.
        credited: the S segments that count.
        ceiling: log-prob from which on nothing is left to win: the best peer's final price. -inf (no peer)
            makes everything worth the same, and the potential_gain 0.
        temperature: in nats.
    """
    heights = np.exp(np.minimum(0.0, sums - ceiling) / temperature)
    rises = np.maximum(0.0, running_maximum_gains(heights))
    return float(heights[-1] * rises[credited].sum())


def calibrated_margin(control_gains: Sequence[float], *, floor: float, fallback: float) -> float:
    """Return the gain, in nats per reference token, below which a reflective segment proves nothing (D15).

    It is mean + 2 standard deviations of what contentless paragraphs gain in the same place, never below
    `floor`. One control tells no spread and none tells nothing: then at least `fallback`.
    """
    if len(control_gains) < 2:
        return max(floor, fallback, *control_gains)
    return max(floor, float(np.mean(control_gains) + 2 * np.std(control_gains, ddof=1)))
