"""What goes wrong in a training, read off its log while it runs and afterwards. Pure functions of log entries.

Trends compare the mean of the last steps with that of the first; they are told from chance by twice the standard
error of the difference, which treats steps as independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, variance

from opera_trainer.artefacts import LogEntry

WINDOW = 10
LEAST = 6
"""Steps before anything is said of a trend."""
MOST = 0.5
DRIFT = 1.5
"""Times as long, or as short, as in the beginning."""
VALUED = ("opera/value", "opera/level", "reward")
JUDGE = "watched/chrf"


def alarms(log: Sequence[LogEntry]) -> dict[str, str]:
    """Return alarm → sentence, for those that ring at the end of `log`."""
    train = [entry for entry in log if entry.split == "train"]
    return dict(_alarms(train))


def _alarms(log: Sequence[LogEntry]) -> Iterator[tuple[str, str]]:
    for name, metric, sentence in (
        ("equal groups", "frac_reward_zero_std", "of the groups are paid alike, which teaches nothing: raise the"
         " temperature or generations, or take a larger scorer"),
        ("gated", "opera/flag/format_gate", "of the responses are paid nothing for their form: see think.mode"),
        ("cut off", "completions/clipped_ratio", "of the responses are cut off: raise grpo.max_completion_length"),
    ):  # fmt: skip
        last = _series(log, metric)[-WINDOW:]
        if last and fmean(last) > MOST:
            yield name, f"{fmean(last):.0%} {sentence}"
    lengths = _series(log, "completions/mean_length")
    if len(lengths) >= LEAST:
        start, end = _ends(lengths)
        ratio = fmean(end) / max(fmean(start), 1.0)
        if not 1 / DRIFT <= ratio <= DRIFT:
            yield "length", f"responses are {ratio:.1f} times as long as in the beginning"
    judge = _series(log, JUDGE)
    valued = next((found for name in VALUED if (found := _series(log, name))), [])
    if len(judge) >= LEAST and len(valued) >= LEAST and _trend(valued) > 0 > _trend(judge):
        yield "hacked", "what is rewarded rises while the overlap with second references falls: reward hacking?"


def _series(log: Sequence[LogEntry], metric: str) -> list[float]:
    return [entry.metrics[metric] for entry in log if metric in entry.metrics]


def _ends(values: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
    window = min(WINDOW, len(values) // 2)
    return values[:window], values[-window:]


def _trend(values: Sequence[float]) -> int:
    """Return 1 for up, -1 for down, 0 for what may be chance."""
    first, last = _ends(values)
    change = fmean(last) - fmean(first)
    error = math.sqrt(variance(first) / len(first) + variance(last) / len(last))
    return 0 if abs(change) <= 2 * error else 1 if change > 0 else -1
