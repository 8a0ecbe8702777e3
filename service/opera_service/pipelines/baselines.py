"""The running mean of log-probs of each training run: a metric beside the `paper` rewards, never part of one.

Bounded: the runs that were quiet longest are forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.config import EmaRules
from opera_service.rewards.ema import RunningMean, step_logprobs


class Baselines:
    """Running means by run and rules; used from the event loop only."""

    def __init__(self, max_runs: int = 1024) -> None:
        self._max_runs = max_runs
        self._means: OrderedDict[tuple[str, EmaRules], RunningMean] = OrderedDict()

    def __len__(self) -> int:
        """Runs remembered."""
        return len(self._means)

    def update(self, run_id: str, rules: EmaRules, outcomes: Iterable[GroupOutcome]) -> float | None:
        """Take in one request of a run and return the run's mean in nats; None while there is no log-prob."""
        mean = self._means.setdefault((run_id, rules), RunningMean(rules))
        self._means.move_to_end((run_id, rules))
        if len(self._means) > self._max_runs:
            self._means.popitem(last=False)
        mean.update(step_logprobs(outcomes))
        return mean.value
