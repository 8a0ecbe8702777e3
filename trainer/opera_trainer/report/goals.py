"""What the project promises of a run on its own world, and whether it kept it. Other data has no promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from opera_trainer.artefacts import Estimate
from opera_trainer.report.gathered import Report


@dataclass(frozen=True)
class Goal:
    """One promise."""

    what: str
    measured: str
    held: bool | None
    """None when the run did not measure it."""


def goals(report: Report) -> list[Goal]:
    """Return the goals of a run on the built-in world, none for other data."""
    return list(_goals(report)) if report.source == "world" else []


def _goals(report: Report) -> Iterator[Goal]:
    right = report.synthesis.right if report.synthesis else None
    yield _goal("cold start: at least 85 % of kept traces are right", right, lambda x: x >= 0.85)
    plain = report.comparison.plain.right if report.comparison and report.comparison.plain else None
    yield _goal("of plain samples, at most 50 % are right", plain, lambda x: x <= 0.5)
    change = _change(report, "standard", "accuracy_sampled")
    yield _goal("GRPO adds at least 35 points at temperature 1", change, lambda x: x >= 0.35, points=True)
    change = _change(report, "harder", "accuracy_sampled")
    yield _goal("on the harder tier it adds something for certain", change, None, points=True)
    change = _change(report, "standard", "accuracy_greedy")
    yield _goal("greedy loses at most 3 points", change, lambda x: x >= -0.03, points=True)
    last = report.evaluations[-1].metrics.get("standard", {}) if report.evaluations else {}
    first = report.evaluations[0].metrics.get("standard", {}) if report.evaluations else {}
    for name, metrics in (("at the start", first), ("at the end", last)):
        yield _goal(
            f"AUC of the reward {name}: at least 0.95", metrics.get("reward_auc"), lambda x: x >= 0.95, plain=True
        )


def _goal(what: str, one: Estimate | None, test, *, points: bool = False, plain: bool = False) -> Goal:  # type: ignore[no-untyped-def]
    if one is None:
        return Goal(what, "–", None)
    held = one.low > 0 if test is None else bool(test(one.value))
    if plain:
        return Goal(what, f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})", held)
    sign = "+" if points else ""
    unit = "points" if points else "%"
    numbers = [f"{100 * x:{sign}.1f}" for x in (one.value, one.low, one.high)]
    return Goal(what, f"{numbers[0]} {unit} ({numbers[1]} to {numbers[2]})", held)


def _change(report: Report, tier: str, metric: str) -> Estimate | None:
    """Return what GRPO changed against the stage before it."""
    found = [one for one in report.gains if one.end == "grpo" and one.tier == tier and one.metric == metric]
    return found[0].change if found else None
