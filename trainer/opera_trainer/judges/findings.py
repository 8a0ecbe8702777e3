"""The rows and the object that the judges leave: judgements.jsonl and judged.json. Knows no stage."""

from __future__ import annotations

from opera_trainer.artefacts import Estimate, Row
from opera_trainer.judges.verdict import Verdict


class Judgement(Row):
    """What the judges say of one answer."""

    stage: str
    task_id: str
    mode: str
    sample: int
    tokens: int
    rewarded: float | None = None
    """What the reward values in it: its component `value` or `level`, else the reward itself."""
    metrics: dict[str, float]


class Change(Row):
    """What one judge sees change from one model to another, over the same tasks, sampled answers."""

    start: str
    end: str
    metric: str
    plain: Estimate
    equal_length: Estimate | None = None


class Preference(Row):
    """Which of two models' answers a judge of pairs prefers; ties count half."""

    judge: str
    start: str
    end: str
    share: Estimate
    """Of pairs in which the later model's answer wins."""
    consistent: float | None = None
    """Share of pairs in which both orders gave the same, or two people said the same."""


class Judged(Row):
    """The stage's findings."""

    verdict: Verdict
    words: str
    start: str
    end: str
    changes: list[Change]
    preferences: list[Preference]
    tasks: int
    """Held-out tasks with a second reference."""
    notes: list[str]
