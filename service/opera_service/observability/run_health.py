"""Rolling numbers of every training run: rewards, spread within groups, lengths, reward-hacking indicators.

One window a run, a bounded number of runs, an injected clock. Knows numbers and names of flags; no text, no HTTP.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, pstdev

from opera_service.observability.hacking_indicators import EMPTY_REFLECTION, REFERENCE_COPY, REPETITION
from opera_service.observability.rewarded import Rewarded

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
    """Share of each reward-hacking indicator."""


@dataclass
class _Lengths:
    """How long a run's responses were at first, and how long they are of late."""

    baseline_count: int = 0
    baseline_tokens: int = 0
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))

    def copy(self) -> _Lengths:
        return replace(self, recent=self.recent.copy())

    @property
    def _baseline(self) -> float | None:
        return self.baseline_tokens / self.baseline_count if self.baseline_count == BASELINE else None

    @property
    def ratio(self) -> float | None:
        baseline = self._baseline
        if not baseline or len(self.recent) < RECENT:
            return None
        return fmean(self.recent) / baseline

    def drifted(self, tokens: int) -> bool:
        ratio, baseline = self.ratio, self._baseline
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


@dataclass
class _Run:
    last_seen: float
    trajectories: deque[Seen]
    groups: deque[tuple[float, bool]]
    """Standard deviation of each group, and whether its rewards are all equal."""
    lengths: _Lengths = field(default_factory=_Lengths)


class RunHealth:
    """Watches at most `max_runs` runs by name. Used from one event loop.

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

    def drifted(self, run_id: str | None, groups: Sequence[Sequence[int]]) -> list[list[bool]]:
        """Say of every response, given its tokens, whether it has drifted in length along with its run.

        Each group is judged by what came before it, the groups before it here included. Changes nothing: the run
        is told by `add`.
        """
        lengths = self._lengths(_name(run_id))
        found = []
        for tokens in groups:
            found.append([lengths.drifted(one) for one in tokens])
            for one in tokens:
                lengths.measure(one)
        return found

    def rewarded(self, event: Rewarded) -> None:
        """Add the fresh trajectories of every group; a subscriber."""
        for group in event.groups:
            seen = [
                Seen(one.outcome.reward, one.encoded.response_tokens, tuple(one.result.flags))
                for one in group.scored()
                if event.is_fresh(one.encoded.id)
            ]
            self.add(event.request.run_id, seen, whole=event.fresh is None)

    def add(self, run_id: str | None, members: Sequence[Seen], *, whole: bool = True) -> None:
        """Add scored members of one group; without `whole`, others of it, and so its spread, were added before."""
        if not members:
            return
        run = self._run(_name(run_id))
        for one in members:
            run.trajectories.append(one)
            run.lengths.measure(one.response_tokens)
        rewards = [one.reward for one in members]
        if whole and len(rewards) > 1:
            run.groups.append((pstdev(rewards), max(rewards) - min(rewards) <= EQUAL))

    def snapshot(self) -> dict[str, RunNumbers]:
        """Return the numbers of every run by name, and of the rest as `other`."""
        named = dict(self._runs)
        if self._other is not None:
            named[OTHER] = self._other
        return {name: _numbers(run.trajectories, run.groups, run.lengths.ratio) for name, run in named.items()}

    def _lengths(self, name: str) -> _Lengths:
        """Return a copy of the lengths that a name's next responses are measured by."""
        run = self._runs.get(name)
        if run is None and (name == OTHER or self._is_full(self._clock())):
            run = self._other
        return run.lengths.copy() if run else _Lengths()

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
        if name == OTHER or self._is_full(now):
            self._other = self._other or self._empty(now)
            return self._other
        if len(self._runs) >= self._max_runs:
            self._runs.popitem(last=False)
        self._runs[name] = self._empty(now)
        return self._runs[name]

    def _is_full(self, now: float) -> bool:
        """Whether all places are taken, by runs that still go on."""
        runs = self._runs
        return len(runs) >= self._max_runs and now - next(iter(runs.values())).last_seen < self._idle_s

    def _empty(self, now: float) -> _Run:
        return _Run(now, deque(maxlen=self._window), deque(maxlen=self._window))


def _name(run_id: str | None) -> str:
    return UNNAMED if run_id is None else run_id[:NAME_CHARS]


def _numbers(
    trajectories: Collection[Seen], groups: Collection[tuple[float, bool]], ratio: float | None
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


def _mean(values: Collection[float]) -> float | None:
    return fmean(values) if values else None
