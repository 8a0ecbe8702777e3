"""The authors' running mean of log-probs: a metric that the service keeps, one per training run.

It never enters a reward: replacing every log-prob by `(1 - mix) * lp + mix * e` is one rising affine map, so
ranks and signs of gains stay as they are (defect D11).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.config import EmaRules


def running_mean(before: float | None, logprobs: ArrayLike, rules: EmaRules) -> float | None:
    """Return the mean in nats per token after one more step with these mean log-probs.

    `before` is the mean so far, None before the first step. A step without any log-prob leaves it as it is.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    if values.size == 0:
        return before
    mean = float(values.mean())
    return mean if before is None else rules.alpha * mean + (1 - rules.alpha) * before


def step_logprobs(outcomes: Iterable[GroupOutcome]) -> Sequence[float]:
    """Return all mean log-probs of a step: per trajectory its final, its initial and its segments' context."""
    found: list[float] = []
    for group in outcomes:
        initial = float(np.mean(group.initial_logprobs))
        for trajectory in group.trajectories:
            found += [float(np.mean(trajectory.token_logprobs)), initial]
            found += [segment.mean_logprob for segment in trajectory.segments]
    return found
