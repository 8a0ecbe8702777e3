"""Every run step by step, added up as groups come: curves stay when the groups themselves made room for others.

Pure: rows in, numbers out. Used under its owner's lock.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import Any

from opera_service.observability.run_health import EQUAL, HACKING, TRUNCATED
from opera_service.ui.visible import run_of

Row = sqlite3.Row

MAX_RUNS = 256
"""Runs whose curves are kept; the one seen longest ago goes first."""
MAX_POINTS = 20_000
"""Steps of a run that are kept; the first ones go first."""
ARRIVALS = 256
"""Most points of a run without steps; past it, neighbours become one."""
TREND = 40
"""Points of the small curve in the list of runs."""
GATE = "_gate"
"""How the flags end that say that a reward was gated."""


@dataclass
class Mean:
    """A sum and how many numbers are in it."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        """Add a number; None is none."""
        if value is not None:
            self.total += value
            self.count += 1

    def merge(self, other: Mean) -> None:
        """Add all of another one."""
        self.total += other.total
        self.count += other.count

    @property
    def value(self) -> float | None:
        """The mean; None of nothing."""
        return self.total / self.count if self.count else None


_MEANS = ("reward", "spread", "level", "equal", "gated", "truncated", "flagged", "tokens")


@dataclass
class Tally:
    """What one step, or one stretch of arrivals, adds up to."""

    groups: int = 0
    trajectories: int = 0
    whole: int = 0
    partial: int = 0
    failed: int = 0
    errors: int = 0
    weight_version: str = ""
    means: dict[str, Mean] = field(default_factory=lambda: {name: Mean() for name in _MEANS})
    components: dict[str, Mean] = field(default_factory=dict)

    def add(self, group: Row, members: Sequence[Row]) -> None:
        """Add one group: rows of the log's tables."""
        rewards = [one["reward"] for one in members if one["reward"] is not None]
        self.groups += 1
        self.trajectories += len(members)
        self.errors += len(members) - len(rewards)
        if len(rewards) == max(len(members), group["expected"] or 0):
            self.whole += 1
        elif rewards:
            self.partial += 1
        else:
            self.failed += 1
        self.weight_version = group["weight_version"]
        if len(rewards) > 1:
            self.means["spread"].add(_deviation(rewards))
            self.means["equal"].add(float(max(rewards) - min(rewards) <= EQUAL))
        for one in members:
            if one["reward"] is not None:
                self._add(one)

    def _add(self, one: Row) -> None:
        gated, truncated, flagged = _shares(one["flags"])
        means = self.means
        means["reward"].add(one["reward"])
        means["level"].add(None if one["mean_logprob"] is None else math.exp(one["mean_logprob"]))
        means["tokens"].add(one["response_tokens"])
        means["gated"].add(gated)
        means["truncated"].add(truncated)
        means["flagged"].add(flagged)
        for name, value in json.loads(one["components"] or "{}").items():
            self.components.setdefault(name, Mean()).add(value)

    def merge(self, other: Tally) -> None:
        """Add all of a later one."""
        for name in ("groups", "trajectories", "whole", "partial", "failed", "errors"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.weight_version = other.weight_version
        for name, mean in other.means.items():
            self.means[name].merge(mean)
        for name, mean in other.components.items():
            self.components.setdefault(name, Mean()).merge(mean)


@dataclass
class Run:
    """One run's tallies by step; where it sends no steps, in the order of arrival."""

    steps: dict[int, Tally] = field(default_factory=dict)
    arrivals: list[Tally] = field(default_factory=list)
    per_arrival: int = 1
    last_time: float = 0.0
    rewards: Counter[str] = field(default_factory=Counter)

    def add(self, group: Row, members: Sequence[Row]) -> None:
        """Add one group."""
        self.last_time = max(self.last_time, group["time"])
        self.rewards[f"{group['reward']}, {group['preset']}"] += 1
        self.tally_of(group["step"]).add(group, members)

    def tally_of(self, step: int | None) -> Tally:
        """Return where a group of this step is added up."""
        if step is not None:
            if step not in self.steps and len(self.steps) >= MAX_POINTS:
                del self.steps[min(self.steps)]
            return self.steps.setdefault(step, Tally())
        if not self.arrivals or self.arrivals[-1].groups >= self.per_arrival:
            if len(self.arrivals) >= ARRIVALS:
                self._halve()
            self.arrivals.append(Tally())
        return self.arrivals[-1]

    def _halve(self) -> None:
        for first, second in zip(self.arrivals[::2], self.arrivals[1::2], strict=True):
            first.merge(second)
        self.arrivals, self.per_arrival = self.arrivals[::2], 2 * self.per_arrival

    def points(self) -> list[tuple[int, Tally]]:
        """Return the tallies in order, by step if there is any."""
        return sorted(self.steps.items()) if self.steps else list(enumerate(self.arrivals))

    def all(self) -> list[Tally]:
        """Return all tallies."""
        return [*self.steps.values(), *self.arrivals]


class Trends:
    """All runs, by name."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()

    def add(self, group: Row, members: Sequence[Row]) -> None:
        """Add one group that was rewarded."""
        name = run_of(group["run_id"])
        if name not in self._runs and len(self._runs) >= MAX_RUNS:
            self._runs.popitem(last=False)
        self._runs.setdefault(name, Run()).add(group, members)
        self._runs.move_to_end(name)

    def replace(self, run_id: str | None, step: int | None, tally: Tally) -> None:
        """Put `tally` in the place of a step's: groups of it were scored again."""
        run = self._runs.get(run_of(run_id))
        if run is not None and step is not None:
            run.steps[step] = tally

    def summary(self, missing: Mapping[str, int], dropped: Mapping[str, int]) -> list[dict[str, Any]]:
        """Return every run, newest first; `missing` and `dropped` count groups by run."""
        runs = sorted(self._runs.items(), key=lambda one: -one[1].last_time)
        return [_summary(name, run, missing.get(name, 0), dropped.get(name, 0)) for name, run in runs]

    def series(self, name: str) -> dict[str, Any]:
        """Return one run's points; none for a run that is not known."""
        run = self._runs.get(name, Run())
        points: list[dict[str, Any]] = []
        weights, since = "", 0
        for x, tally in run.points():
            if tally.weight_version != weights:
                weights, since = tally.weight_version, x
            points.append(_point(x, tally, x - since))
        return {"run": name, "by": "step" if run.steps else "arrival", "points": points}


def _point(x: int, tally: Tally, staleness: int) -> dict[str, Any]:
    return {
        "x": x,
        "groups": tally.groups,
        "trajectories": tally.trajectories,
        **{name: mean.value for name, mean in tally.means.items()},
        "components": {name: mean.value for name, mean in tally.components.items()},
        "weight_version": tally.weight_version,
        "staleness": staleness,
        "errors": tally.errors,
    }


def _summary(name: str, run: Run, missing: int, dropped: int) -> dict[str, Any]:
    tallies = run.all()
    steps = sorted(run.steps)
    trend = [tally.means["reward"].value for _, tally in run.points()[-TREND:]]
    return {
        "run": name,
        "groups": sum(one.groups for one in tallies),
        "trajectories": sum(one.trajectories for one in tallies),
        "first_step": steps[0] if steps else None,
        "last_step": steps[-1] if steps else None,
        "last_time": run.last_time,
        "rewards": [one for one, _ in run.rewards.most_common(4)],
        "completeness": {
            "whole": sum(one.whole for one in tallies),
            "partial": sum(one.partial for one in tallies),
            "failed": sum(one.failed for one in tallies),
            "missing": missing,
            "dropped": dropped,
            "missing_steps": [[one + 1, two - 1] for one, two in pairwise(steps) if two > one + 1],
        },
        "trend": [value for value in trend if value is not None],
    }


@lru_cache(1024)
def _shares(flags: str) -> tuple[float, float, float]:
    """Return whether a trajectory with these flags, as JSON, counts as gated, truncated, flagged."""
    found = frozenset(json.loads(flags))
    return (
        float(any(flag.endswith(GATE) for flag in found)),
        float(not TRUNCATED.isdisjoint(found)),
        float(not found.isdisjoint(HACKING)),
    )


def _deviation(values: Sequence[float]) -> float:
    """Return the population's standard deviation; `statistics.pstdev` takes far longer, in fractions."""
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def mean_or_none(values: Sequence[float]) -> float | None:
    """Return the mean; None of nothing."""
    return fmean(values) if values else None
