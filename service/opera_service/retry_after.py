"""The Retry-After rule: a refused caller waits until the measured drain rate has made room.

The drain rate is an amount per second; recent seconds count more than old ones. Whoever measures hands the seconds
in. It knows no tokens, no groups, no clock.
"""

from __future__ import annotations

import math


class DrainRate:
    """Decayed amount over decayed seconds: what lies `half_life_s` measured seconds back counts half."""

    def __init__(self, half_life_s: float = 30.0) -> None:
        self._half_life_s = half_life_s
        self._amount = self._seconds = 0.0

    def add(self, amount: float, seconds: float) -> None:
        """Take in that `amount` left within `seconds`."""
        kept = 0.5 ** (seconds / self._half_life_s)
        self._amount = kept * self._amount + amount
        self._seconds = kept * self._seconds + seconds

    def per_second(self, *, amount: float = 0.0, seconds: float = 0.0) -> float | None:
        """Return the rate, as if this had just been added, too; None before anything was measured."""
        total = self._seconds + seconds
        return (self._amount + amount) / total if self._amount > 0 and total > 0 else None


LEAST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Bounds of what a refused caller is asked to wait. Load changes: nobody is sent away for longer than a minute."""


def seconds_to_wait(amount: float, rate: float | None) -> float:
    """Return in how many whole seconds `amount` drains, within the bounds; the least when unmeasured."""
    wait = amount / rate if rate else 0.0
    return float(math.ceil(round(min(max(wait, LEAST_WAIT_S), LONGEST_WAIT_S), 6)))
