"""Numbers for trainers that have no word for "no reward": one failure policy for whoever speaks to such a trainer.

A trajectory that could not be scored gets its group's mean, which teaches nothing; a group of such trajectories
gets 0 for all. Equal rewards stay equal under a trainer's float32 mean, or dividing by their deviation would teach
its rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

EQUAL = 1e-6
"""Rewards of a group that are closer than this are equal: float32 cannot be trusted to tell them apart."""
GRID = 2.0**-12
"""Equal rewards are multiples of this. Their float32 mean is then exact, and their advantage exactly 0, where a
trainer that divides by the deviation + 1e-9 makes up to 119 of 0.7 eight times."""


class Number(NamedTuple):
    """What a trainer is told about one trajectory."""

    reward: float
    """The group's mean where it could not be scored, 0 where the group could not."""
    score: float
    """In [0, 1]: the reward's place between its group's lowest and highest; 0 for all where those are equal."""


def number_of(reward: float | None, group: Sequence[float]) -> Number:
    """Return the number of one trajectory; `group` holds the rewards of all that were scored with it."""
    low, high, mean = (min(group), max(group), fmean(group)) if group else (0.0, 0.0, 0.0)
    if high - low < EQUAL:
        return Number(round(mean / GRID) * GRID, 0.0)
    given = mean if reward is None else reward
    return Number(given, (given - low) / (high - low))
