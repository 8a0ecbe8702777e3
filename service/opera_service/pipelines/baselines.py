"""The running mean of log-probs of each training run: a metric beside the `paper` rewards, never part of one.

Bounded: the runs that were quiet longest are forgotten first.
"""

from __future__ import annotations

from collections.abc import Iterable

from cachetools import LRUCache

from opera_service.observability.rewarded import Rewarded
from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.config import EmaRules
from opera_service.rewards.ema import running_mean, step_logprobs


class Baselines:
    """Running means in nats by run and rules; used from the event loop only."""

    def __init__(self, max_runs: int = 1024) -> None:
        self._means: LRUCache[tuple[str, EmaRules], float] = LRUCache(max_runs)

    def __len__(self) -> int:
        """Runs remembered."""
        return len(self._means)

    def after(self, run_id: str, rules: EmaRules, outcomes: Iterable[GroupOutcome]) -> float | None:
        """Return what the run's mean becomes with one more request; None while there is no log-prob.

        Changes nothing: the answer that says so is what `rewarded` remembers.
        """
        return running_mean(self._means.get((run_id, rules)), step_logprobs(outcomes), rules)

    def rewarded(self, event: Rewarded) -> None:
        """Remember the mean that the answer says; a subscriber."""
        run_id, rules, mean = event.request.run_id, event.reward.leading.config.ema, event.result.ema_baseline
        if run_id and rules and mean is not None:
            self._means[run_id, rules] = mean
