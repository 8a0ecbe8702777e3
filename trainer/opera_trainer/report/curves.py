"""Training curves as data that the live page's code draws. Knows log entries, no files and no page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from opera_trainer.artefacts import LogEntry

WINDOW = 9
"""Steps of the running mean."""

GRPO: tuple[tuple[str, dict[str, str]], ...] = (
    ("Reward", {"reward": "reward"}),
    ("Right answers, which no reward sees", {"watched/right": "right"}),
    ("Overlap with second references, which no reward sees", {"watched/chrf": "chrF"}),
    (
        "Components of the reward",
        {
            "opera/relative": "relative",
            "opera/answer": "answer",
            "opera/precision": "precision",
            "opera/relevance": "relevance",
            "opera/thought": "thought",
            "opera/consistency": "consistency",
            "opera/reflection": "reflection",
            "opera/value": "value",
            "opera/level": "level (not paid)",
        },
    ),
    ("Shape of thoughts", {"watched/empty_thought": "empty thoughts"}),
    ("Length, tokens", {"completions/mean_length": "mean"}),
    ("Entropy and gradient", {"entropy": "entropy", "grad_norm": "gradient norm"}),
)
SFT = (("Loss", {"loss": "loss"}), ("Tokens predicted right", {"mean_token_accuracy": "accuracy"}))


def charts(stage: str, log: Sequence[LogEntry]) -> list[dict[str, Any]]:
    """Return every chart that the log has numbers for, as `ui/src/offline/Curves.tsx` has them."""
    found = []
    for title, names in GRPO if stage == "grpo" else SFT:
        quantities = [one for metric, label in names.items() if (one := _quantity(log, metric, label)) is not None]
        if quantities:
            found.append({"title": title, "quantities": quantities})
    return found


def smooth(values: Sequence[float], window: int = WINDOW) -> list[float]:
    """Return the running mean over at most `window` values, up to each."""
    return [fmean(values[max(0, at - window + 1) : at + 1]) for at in range(len(values))]


def _quantity(log: Sequence[LogEntry], metric: str, label: str) -> dict[str, Any] | None:
    logged, validation = _series(log, "train", metric), _series(log, "validation", metric)
    if not logged and not validation:
        return None
    means = smooth([value for _, value in logged])
    return {
        "name": label,
        "logged": logged,
        "smooth": [(step, value) for (step, _), value in zip(logged, means, strict=True)],
        "validation": validation,
    }


def _series(log: Iterable[LogEntry], split: str, metric: str) -> list[tuple[int, float]]:
    return [(one.step, one.metrics[metric]) for one in log if one.split == split and metric in one.metrics]
