"""When to ask again and how long to wait first: pure decisions, with clock and dice handed in.

Knows no HTTP library and never sleeps. One `Deadline` covers a whole call: all its requests and all its waits.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

Clock = Callable[[], float]
"""Seconds that never run backwards."""


def is_retryable(status: int) -> bool:
    """Return whether an HTTP status may be asked again: 408, 425, 429 and every 5xx but 501."""
    return status in (408, 425, 429) or (500 <= status <= 599 and status != 501)


LONGEST_RETRY_AFTER_S = 3600.0
"""Whatever a server asks for: clocks and sleeps have no room for more than they are made for."""


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds of a `Retry-After` header, given as seconds or as an HTTP date; None if unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except (ValueError, OverflowError, TypeError, IndexError):
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        seconds = (when - (now or datetime.now(UTC))).total_seconds()
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else None


@dataclass(frozen=True)
class Deadline:
    """The one moment at which a call gives up; None waits for ever."""

    timeout: float | None
    """Seconds from the start."""
    clock: Clock = time.monotonic
    start: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", self.clock())

    @property
    def remaining(self) -> float | None:
        """Return the seconds left, never below 0."""
        return None if self.timeout is None else max(self.start + self.timeout - self.clock(), 0.0)

    def allows(self, wait: float) -> bool:
        """Return whether something can still be done after waiting so many seconds."""
        left = self.remaining
        return left is None or wait < left


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter: the n-th wait is uniform in [0, min(cap, base · 2ⁿ)] seconds.

    A `Retry-After` is a lower bound, with up to `base` seconds of jitter on top, so that a thousand waiting
    callers do not come back in the same instant. It is also flow control rather than failure: only attempts
    that the service did not ask to repeat use up `retries`.
    """

    retries: int = 8
    base: float = 0.5
    cap: float = 30.0
    dice: random.Random = field(default_factory=random.Random, compare=False)

    def wait(self, failures: int, retry_after: float | None) -> float | None:
        """Return the seconds to wait after this failure, or None to give up.

        `failures` counts the earlier failures of the same request that carried no `Retry-After`.
        """
        if retry_after is not None:
            return retry_after + self.dice.uniform(0.0, self.base)
        if failures >= self.retries:
            return None
        return self.dice.uniform(0.0, min(self.cap, self.base * 2.0 ** min(failures, 60)))
