"""The authors' running mean of log-probs: a metric with state, kept by the service, one per run.

It never enters a reward: replacing every log-prob by `(1 - mix) * lp + mix * e` is one rising affine map, so
ranks and signs of gains stay as they are (defect D11).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.config import EmaRules


class RunningMean:
    """Exponential moving average over the steps of one run. Not thread-safe: one owner."""

    def __init__(self, rules: EmaRules) -> None:
        self.rules = rules
        self.value: float | None = None
        """The mean in nats per token; None before the first step."""

    def update(self, logprobs: ArrayLike) -> float:
        """Take in one step's mean log-probs and return the new running mean.

        Without any log-prob it returns 0.0 and leaves the state alone, as the released code does.
        """
        values = np.asarray(logprobs, dtype=np.float64)
        if values.size == 0:
            return 0.0
        mean = float(values.mean())
        alpha = self.rules.alpha
        self.value = mean if self.value is None else alpha * mean + (1 - alpha) * self.value
        return self.value

    def smooth(self, logprobs: ArrayLike) -> NDArray[np.float64]:
        """Return `(1 - mix) * lp + mix * e`. Raises ValueError before the first update."""
        if self.value is None:
            raise ValueError("nothing to smooth with: update the running mean first")
        mix = self.rules.mix
        return (1 - mix) * np.asarray(logprobs, dtype=np.float64) + mix * self.value


def step_logprobs(outcomes: Iterable[GroupOutcome]) -> Sequence[float]:
    """Return all mean log-probs of a step: per trajectory its final, its initial and its segments' context."""
    found: list[float] = []
    for group in outcomes:
        initial = float(np.mean(group.initial_logprobs))
        for trajectory in group.trajectories:
            found += [float(np.mean(trajectory.token_logprobs)), initial]
            found += [segment.mean_logprob for segment in trajectory.segments]
    return found
