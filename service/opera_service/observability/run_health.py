"""Rolling numbers of every training run: rewards, spread within groups, lengths, signs of hacking.

One window a run, a bounded number of runs, an injected clock. Knows numbers and names of flags; no text, no HTTP.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from threading import Lock

from opera_service.observability.hacking_indicators import EMPTY_REFLECTION, REFERENCE_COPY, REPETITION

LENGTH_DRIFT = "length_drift"
"""The run's responses have become `DRIFT` times as long or as short as they were, and so is this one."""
HACKING = (EMPTY_REFLECTION, REPETITION, REFERENCE_COPY, LENGTH_DRIFT)
TRUNCATED = frozenset({"think_unclosed", "empty_answer"})
THINKLESS = frozenset({"think_missing", "empty_think"})

UNNAMED, OTHER = "unnamed", "other"
NAME_CHARS = 64
"""What is kept of a run's name."""
DRIFT = 2.0
BASELINE = 256
"""Trajectories at a run's start whose mean length is the measure for all later ones."""
RECENT = 128
"""Trajectories whose mean length is measured by it."""
EQUAL = 1e-9
"""Rewards of a group that differ by no more teach GRPO nothing."""


@dataclass(frozen=True)
class Seen:
    """One scored trajectory."""

    reward: float
    response_tokens: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunNumbers:
    """A run's last `window` trajectories, and the groups among them; None where there is nothing to average."""

    trajectories: int
    reward_mean: float | None
    reward_spread: float | None
    """Mean standard deviation of the rewards within groups of two and more."""
    equal_groups: float | None
    """Share of those groups whose rewards are all equal."""
    truncated: float | None
    """Share cut off in the thought or before the answer."""
    thinkless: float | None
    """Share without a thought."""
    response_tokens: float | None
    length_ratio: float | None
    """Mean length of the last `RECENT` responses over that of the run's first `BASELINE`; None before those."""
    flagged: Mapping[str, float]
    """Share of each sign of hacking."""


@dataclass
class _Run:
    last_seen: float
    trajectories: deque[Seen]
    groups: deque[tuple[float, bool]]
    """Standard deviation of each group, and whether its rewards are all equal."""
    baseline_count: int = 0
    baseline_tokens: int = 0
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def baseline(self) -> float | None:
        return self.baseline_tokens / self.baseline_count if self.baseline_count == BASELINE else None

    @property
    def length_ratio(self) -> float | None:
        baseline = self.baseline
        if not baseline or len(self.recent) < RECENT:
            return None
        return fmean(self.recent) / baseline

    def drifted(self, tokens: int) -> bool:
        ratio, baseline = self.length_ratio, self.baseline
        if ratio is None or baseline is None:
            return False
        longer, shorter = ratio >= DRIFT, ratio <= 1 / DRIFT
        return (longer and tokens >= DRIFT * baseline) or (shorter and tokens <= baseline / DRIFT)

    def measure(self, tokens: int) -> None:
        if self.baseline_count < BASELINE:
            self.baseline_count += 1
            self.baseline_tokens += tokens
        else:
            self.recent.append(tokens)


class RunHealth:
    """Watches at most `max_runs` runs by name. Used from several threads.

    When all places are taken, a new run gets the place of the one seen longest ago if that has been silent for
    `idle_s` seconds; else it counts as `other`, so that names cannot flood whoever collects the numbers.
    """

    def __init__(
        self, clock: Callable[[], float], *, window: int = 512, max_runs: int = 32, idle_s: float = 3600.0
    ) -> None:
        self._clock = clock
        self._window, self._max_runs, self._idle_s = window, max_runs, idle_s
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._other: _Run | None = None
        self._lock = Lock()

    def group(self, run_id: str | None, members: Sequence[Seen], *, whole: bool = True) -> list[tuple[str, ...]]:
        """Add the scored members of one group; return for each of them what only the run's past can tell.

        Without `whole`, others of their group were added before: its spread has been counted.
        """
        if not members:
            return []
        with self._lock:
            run = self._run(UNNAMED if run_id is None else run_id[:NAME_CHARS])
            drift: list[tuple[str, ...]] = [
                (LENGTH_DRIFT,) if run.drifted(one.response_tokens) else () for one in members
            ]
            for one, more in zip(members, drift, strict=True):
                run.trajectories.append(Seen(one.reward, one.response_tokens, one.flags + more))
                run.measure(one.response_tokens)
            rewards = [one.reward for one in members]
            if whole and len(rewards) > 1:
                run.groups.append((pstdev(rewards), max(rewards) - min(rewards) <= EQUAL))
            return drift

    def snapshot(self) -> dict[str, RunNumbers]:
        """Return the numbers of every run by name, and of the rest as `other`."""
        with self._lock:
            named = dict(self._runs)
            if self._other is not None:
                named[OTHER] = self._other
            kept = {
                name: (list(run.trajectories), list(run.groups), run.length_ratio) for name, run in named.items()
            }
        return {name: _numbers(*one) for name, one in kept.items()}

    def _run(self, name: str) -> _Run:
        now = self._clock()
        run = self._other if name == OTHER else self._runs.get(name)
        if run is None:
            run = self._place(name, now)
        else:
            run.last_seen = now
            if run is not self._other:
                self._runs.move_to_end(name)
        return run

    def _place(self, name: str, now: float) -> _Run:
        """Return the window of a name that has none of its own."""
        full = len(self._runs) >= self._max_runs
        if full and now - next(iter(self._runs.values())).last_seen >= self._idle_s:
            self._runs.popitem(last=False)
            full = False
        if full or name == OTHER:
            self._other = self._other or self._empty(now)
            return self._other
        self._runs[name] = self._empty(now)
        return self._runs[name]

    def _empty(self, now: float) -> _Run:
        return _Run(now, deque(maxlen=self._window), deque(maxlen=self._window))


def _numbers(
    trajectories: Sequence[Seen], groups: Sequence[tuple[float, bool]], ratio: float | None
) -> RunNumbers:
    def share(names: frozenset[str]) -> float | None:
        return _mean([not names.isdisjoint(one.flags) for one in trajectories])

    return RunNumbers(
        trajectories=len(trajectories),
        reward_mean=_mean([one.reward for one in trajectories]),
        reward_spread=_mean([spread for spread, _ in groups]),
        equal_groups=_mean([equal for _, equal in groups]),
        truncated=share(TRUNCATED),
        thinkless=share(THINKLESS),
        response_tokens=_mean([one.response_tokens for one in trajectories]),
        length_ratio=ratio,
        flagged={flag: share(frozenset({flag})) or 0.0 for flag in HACKING},
    )


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
