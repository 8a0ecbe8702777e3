"""The ablation's table: what each cell did to held-out answers, over seeds. Knows no training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import Field

from opera_trainer.ablation.cells import Trial
from opera_trainer.artefacts import Evaluation, LogEntry, Row, read_json, read_rows, write_json
from opera_trainer.judges.findings import Judged

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t, 97.5 %, by number of seeds."""
ENDS = 10
"""Steps at either end of the curve that the training reward is averaged over."""


class Outcome(Row):
    """One trial's numbers; accuracies are shares of held-out tasks."""

    cell: str
    seed: int
    before: dict[str, float]
    after: dict[str, float]
    reward_first: float | None = None
    """Training reward at the beginning; None where nothing was rewarded."""
    reward_last: float | None = None
    verdict: str | None = None
    """The judges', on tasks without exact checks."""
    changes: dict[str, float] = Field(default_factory=dict)
    """Of what is rewarded and of each judge, at equal length where that is known."""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Of the changes, 95 %, over tasks."""


KEYS = tuple(
    f"{tier}/{name}"
    for tier in ("standard", "harder")
    for name in ("accuracy_sampled", "accuracy_greedy", "reward_auc", "empty_thought", "reflective", "tokens")
)


@dataclass(frozen=True)
class Spread:
    """Mean over seeds with its 95 % t interval, None for one seed."""

    mean: float
    half: float | None

    def __str__(self) -> str:
        """Return e.g. `.87 ± .03`."""
        shown = f"{self.mean:.2f}".replace("0.", ".")
        return shown if self.half is None else f"{shown} ± {self.half:.2f}".replace("0.", ".")


def spread(values: Sequence[float]) -> Spread:
    """Return mean and interval of one number a seed; raises ValueError for none."""
    if not values:
        raise ValueError("no seed")
    if len(values) == 1:
        return Spread(values[0], None)
    half = T95[len(values)] * stdev(values) / math.sqrt(len(values))
    return Spread(fmean(values), half)


def outcome(trial: Trial) -> Outcome:
    """Read what a finished trial measured. Raises BadInput."""
    before = read_json(trial.common / trial.start / "evaluation.json", Evaluation)
    after = read_json(trial.folder / f"evaluate-{trial.trained}" / "evaluation.json", Evaluation)
    log = read_rows(trial.folder / trial.trained / "log.jsonl", LogEntry)
    judged = _judged(trial)
    rewards = [entry.metrics["reward"] for entry in log if entry.split == "train" and "reward" in entry.metrics]
    return Outcome(
        cell=trial.cell.name,
        seed=trial.seed,
        before=_flat(before),
        after=_flat(after),
        reward_first=fmean(rewards[:ENDS]) if rewards else None,
        reward_last=fmean(rewards[-ENDS:]) if rewards else None,
        **judged,
    )


def _judged(trial: Trial) -> dict[str, Any]:
    path = trial.folder / "judge" / "judged.json"
    if not path.exists():
        return {}
    found = read_json(path, Judged)
    changes = {
        one.metric: one.equal_length or one.plain
        for one in found.changes
        if (one.start, one.end) == (found.start, found.end)
    }
    return {
        "verdict": found.verdict,
        "changes": {name: one.value for name, one in changes.items()},
        "intervals": {name: (one.low, one.high) for name, one in changes.items()},
    }


def _flat(evaluation: Evaluation) -> dict[str, float]:
    found = {
        f"{tier}/{name}": estimate.value
        for tier, metrics in evaluation.metrics.items()
        for name, estimate in metrics.items()
    }
    return {key: found[key] for key in KEYS if key in found}


def markdown(found: Iterable[Outcome], notes: dict[str, str], missing: Sequence[str]) -> str:
    """Return the table, one row a cell in the order of `found`, and which trials were not run."""
    cells: dict[str, list[Outcome]] = {}
    for one in found:
        cells.setdefault(one.cell, []).append(one)
    judged = {name: ones for name, ones in cells.items() if any(one.changes for one in ones)}
    if judged:
        return "\n".join([*_judged_lines(judged, notes), *_not_run(missing)]) + "\n"
    lines = [
        "| cell | seeds | T = 1, start → end | gain, points | harder, T = 1 | greedy | training reward | AUC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(name, notes.get(name, ""), ones) for name, ones in cells.items()]
    return "\n".join([*lines, *_not_run(missing)]) + "\n"


def _not_run(missing: Sequence[str]) -> list[str]:
    return ["", f"Not run: {', '.join(missing)}."] if missing else []


def _judged_lines(cells: Mapping[str, Sequence[Outcome]], notes: Mapping[str, str]) -> Iterator[str]:
    """Yield one row a cell: what it changed for the judges, and for what is rewarded."""
    names = list(dict.fromkeys(name for ones in cells.values() for one in ones for name in one.changes))
    yield f"| cell | seeds | {' | '.join(names)} | tokens | training reward | verdicts |"
    yield "|---" * (len(names) + 5) + "|"
    for name, ones in cells.items():
        note = notes.get(name, "")
        changes = [change(ones, judge) for judge in names]
        tokens = [fmean(getattr(one, side)["standard/tokens"] for one in ones) for side in ("before", "after")]
        columns = [
            f"`{name}`" + (f": {note}" if note else ""), " ".join(str(one.seed) for one in ones), *changes,
            f"{tokens[0]:.0f} → {tokens[1]:.0f}",
            training_reward(ones),
            ", ".join(one.verdict or "–" for one in ones),
        ]  # fmt: skip
        yield f"| {' | '.join(columns)} |"


def change(ones: Sequence[Outcome], judge: str) -> str:
    """Return the mean over seeds with its interval over seeds; of one seed the interval over tasks."""
    known = [one for one in ones if judge in one.changes]
    if not known:
        return "–"
    found = spread([one.changes[judge] for one in known])
    if found.half is not None:
        return f"{found.mean:+.3f} ± {found.half:.3f}"
    low, high = known[0].intervals.get(judge, (None, None))
    return f"{found.mean:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")


def training_reward(ones: Sequence[Outcome]) -> str:
    """Return first and last training reward, means over seeds; a dash where nothing was rewarded."""
    both = [(one.reward_first, one.reward_last) for one in ones]
    first, last = ([value for value in side if value is not None] for side in zip(*both, strict=True))
    return f"{fmean(first):.2f} → {fmean(last):.2f}" if first and last else "–"


def _line(name: str, note: str, ones: Sequence[Outcome]) -> str:
    def pair(key: str) -> str:
        if any(key not in one.before or key not in one.after for one in ones):
            return "–"
        return f"{spread([one.before[key] for one in ones])} → {spread([one.after[key] for one in ones])}"

    sampled = "standard/accuracy_sampled"
    known = [one for one in ones if sampled in one.before and sampled in one.after]
    gains = spread([100 * (one.after[sampled] - one.before[sampled]) for one in known]) if known else None
    gain = "–" if gains is None else f"{gains.mean:+.0f}" + ("" if gains.half is None else f" ± {gains.half:.0f}")
    aucs = [one.after["standard/reward_auc"] for one in ones if "standard/reward_auc" in one.after]
    reward = training_reward(ones)
    seeds = " ".join(str(one.seed) for one in ones)
    columns = [
        f"`{name}`" + (f": {note}" if note else ""), seeds, pair(sampled), gain, pair("harder/accuracy_sampled"),
        pair("standard/accuracy_greedy"), reward, str(spread(aucs)) if aucs else "–",
    ]  # fmt: skip
    return f"| {' | '.join(columns)} |"


def write(trials: Sequence[Trial], out: Path) -> Path:
    """Write `ablation.json` and `ablation.md` from the trials that are done; return the latter. Raises OSError."""
    done = [outcome(trial) for trial in trials if trial.done]
    missing = [f"{trial.cell.name} at seed {trial.seed}" for trial in trials if not trial.done]
    write_json(out / "ablation.json", {"outcomes": [one.model_dump() for one in done], "missing": missing})
    page = out / "ablation.md"
    page.write_text(markdown(done, {one.cell.name: one.cell.note for one in trials}, missing), encoding="utf-8")
    return page
