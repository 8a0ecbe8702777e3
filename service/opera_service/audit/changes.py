"""What changed between a log and its replay, as numbers.

Pure. A trajectory with an error on either side is counted, not compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean

from opera_service.audit.rescore import Numbers, RescoredGroup

WORST = 10
"""Largest changes that are remembered."""


@dataclass
class Series:
    """One number of many trajectories, then and now."""

    then: list[float] = field(default_factory=list)
    now: list[float] = field(default_factory=list)

    @property
    def change(self) -> float:
        """Mean of now minus then."""
        return fmean(self._differences)

    @property
    def distance(self) -> float:
        """Mean absolute difference."""
        return fmean(map(abs, self._differences))

    @property
    def largest(self) -> float:
        """Largest absolute difference."""
        return max(map(abs, self._differences))

    @property
    def _differences(self) -> list[float]:
        return [new - old for old, new in zip(self.then, self.now, strict=True)]


@dataclass(frozen=True)
class Change:
    """One trajectory's reward, then and now."""

    group: RescoredGroup
    id: str
    then: float
    now: float


@dataclass
class Changes:
    """Adds up what `add` is given; `tolerance` is the difference of rewards that is none."""

    tolerance: float = 1e-6
    groups: int = 0
    compared: int = 0
    changed: int = 0
    pairs: int = 0
    """Pairs within groups of which one was better then."""
    turned: int = 0
    """Of those, pairs of which the other one is better now, or none."""
    best_groups: int = 0
    """Groups with one best member then."""
    best_kept: int = 0
    """Of those, groups in which it is still the best, alone or not."""
    other_config: int = 0
    """Groups whose configuration means something else by now."""
    series: dict[str, Series] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    """Trajectories that had a reward and have none now, by reason; `recovered` those the other way round."""
    worst: list[Change] = field(default_factory=list)
    then: Counter[str] = field(default_factory=Counter)
    """Groups by what scored them."""
    now: Counter[str] = field(default_factory=Counter)

    def add(self, group: RescoredGroup) -> None:
        """Count one group."""
        self.groups += 1
        self.then[group.then] += 1
        if group.now is not None:
            self.now[group.now] += 1
        self.other_config += not group.same_config
        both: list[tuple[float, float]] = []
        for pair in group.pairs:
            if pair.then is not None and pair.now is not None:
                both.append((pair.then.reward, pair.now.reward))
                self._compare(group, pair.id, pair.then, pair.now)
            elif pair.then is not None:
                self.missing[pair.why or "unknown"] += 1
            elif pair.now is not None:
                self.missing["recovered"] += 1
        self._order(both)

    def _compare(self, group: RescoredGroup, name: str, then: Numbers, now: Numbers) -> None:
        self.compared += 1
        self._append("reward", then.reward, now.reward)
        for part in then.components.keys() & now.components.keys():
            self._append(part, then.components[part], now.components[part])
        if then.mean_logprob is not None and now.mean_logprob is not None:
            self._append("mean_logprob", then.mean_logprob, now.mean_logprob)
        if abs(now.reward - then.reward) > self.tolerance:
            self.changed += 1
            self.worst.append(Change(group, name, then.reward, now.reward))
            self.worst.sort(key=lambda one: -abs(one.now - one.then))
            del self.worst[WORST:]

    def _append(self, name: str, then: float, now: float) -> None:
        series = self.series.setdefault(name, Series())
        series.then.append(then)
        series.now.append(now)

    def _order(self, both: Sequence[tuple[float, float]]) -> None:
        for (then, now), (other_then, other_now) in combinations(both, 2):
            before = self._sign(then - other_then)
            if before:
                self.pairs += 1
                self.turned += self._sign(now - other_now) != before
        if not both:
            return
        top = max(then for then, _ in both)
        best = [now for then, now in both if top - then <= self.tolerance]
        if len(both) > 1 and len(best) == 1:
            self.best_groups += 1
            self.best_kept += best[0] >= max(now for _, now in both) - self.tolerance

    def _sign(self, difference: float) -> int:
        return 0 if abs(difference) <= self.tolerance else 1 if difference > 0 else -1
