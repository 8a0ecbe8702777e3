"""Kubernetes' HPA as deploy/ configures it, and the signals it may follow. Knows no time but what it is told."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

TOLERANCE = 0.1
DOWN_WINDOW_S, DOWN_PERIOD_S = 300.0, 60.0
UP_PERCENT, UP_PODS = 300, 4


@dataclass(frozen=True)
class Load:
    """What the autoscaler sees at one moment."""

    pods: int
    """Ready ones and those that start."""
    tokens: float
    """Waiting or being computed."""
    requests: int
    """Likewise."""
    use: float
    """Share of the last tick in which engines worked; pods that start count as idle."""


Signal = Callable[[Load], float]
"""Wanted pods over present pods."""


def by_tokens(target: float) -> Signal:
    """At most `target` tokens a pod, waiting or being computed."""
    return lambda load: load.tokens / target / load.pods


def by_requests(target: float) -> Signal:
    """At most `target` requests a pod."""
    return lambda load: load.requests / target / load.pods


def by_use(target: float) -> Signal:
    """Engines busy at most this share of the time."""
    return lambda load: load.use / target


class Autoscaler:
    """Kubernetes' HPA: up at once, at most fourfold or by four pods a tick; down by one pod a minute, late."""

    def __init__(self, signal: Signal | None, least: int, most: int) -> None:
        self._signal, self._least, self._most = signal, least, most
        self._wanted: deque[tuple[float, int]] = deque()
        self._went_down = -math.inf

    def pods(self, now: float, load: Load) -> int:
        """Return how many pods there should be from now on."""
        if self._signal is None:
            return load.pods
        ratio = self._signal(load)
        wanted = load.pods if abs(ratio - 1) <= TOLERANCE else math.ceil(ratio * load.pods - 1e-9)
        wanted = min(max(wanted, self._least), self._most)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - DOWN_WINDOW_S:
            self._wanted.popleft()
        if wanted > load.pods:
            return min(wanted, max(load.pods + UP_PODS, math.floor(load.pods * (1 + UP_PERCENT / 100))))
        # Down no further than the highest wish of the window, and only once a minute.
        highest = max(count for _, count in self._wanted)
        if highest < load.pods and now - self._went_down >= DOWN_PERIOD_S:
            self._went_down = now
            return load.pods - 1
        return load.pods
