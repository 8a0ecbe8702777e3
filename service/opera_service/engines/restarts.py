"""When an engine that was lost is tried again, and when only a new process can help; for whoever watches one."""

from __future__ import annotations

from collections.abc import Sequence

PAUSES_S = (0.0, 1.0, 5.0, 15.0, 60.0)
"""Waits before successive attempts; the last repeats."""


class RestartPolicy:
    """Counts the attempts to replace one lost engine."""

    def __init__(self, pauses_s: Sequence[float] = PAUSES_S) -> None:
        self._pauses_s = pauses_s
        self.attempts = 0
        """Begun since the engine was lost."""

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next attempt."""
        return self._pauses_s[min(self.attempts, len(self._pauses_s) - 1)]

    @property
    def hopeless(self) -> bool:
        """Whether so many attempts were made in vain that only a new process can help."""
        return self.attempts >= len(PAUSES_S)

    def reset(self) -> None:
        """Begin to count anew: another engine was lost."""
        self.attempts = 0
