"""The user's own groups with what is known about their responses, from JSONL or Parquet.

A line is a group as `score` takes it. In each trajectory may stand a `grade` (a number, higher is better) and the
`finish_reason` of its sampling (`length`: it was cut off); in the group `preferences`, pairs `[better, worse]` of
positions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_client._parse import item_of
from opera_client.errors import BadInput, InvalidRequest
from opera_client.files.lines import Lines
from opera_client.wire import Group


@dataclass(frozen=True)
class Sample:
    """One group of honest responses."""

    group: Group
    better: Sequence[tuple[int, int]]
    """Pairs of positions, the better response first; empty where nothing is known."""
    best: int | None
    """The response with the highest grade, or the one that most pairs prefer."""
    where: str = ""
    """File and line, for errors that only scoring finds."""
    cut_off: Sequence[bool | None] = ()
    """By position, whether sampling ended for want of tokens; None, or no entry, where that is not known."""


def read(path: Path, limit: int) -> list[Sample]:
    """Return up to `limit` groups, spread evenly over the file. Raises `BadInput` that names the line."""
    lines = Lines(path)
    rows = [(number, line) for number, _, line in lines.scan()]
    if not rows:
        raise BadInput(f"{path}: no groups")
    chosen = rows if len(rows) <= limit else [rows[at * len(rows) // limit] for at in range(limit)]
    return [_sample(path, number, line) for number, line in chosen]


def _sample(path: Path, number: int, line: dict[str, Any]) -> Sample:
    where = f"{path}, line {number}"
    if "trajectories" not in line:
        raise BadInput(f"{where}: a check needs whole groups, with `trajectories`")
    pairs = line.pop("preferences", [])
    given = line["trajectories"] if isinstance(line["trajectories"], list) else []
    grades = [one.pop("grade", None) if isinstance(one, dict) else None for one in given]
    reasons = [one.pop("finish_reason", None) if isinstance(one, dict) else None for one in given]
    try:
        group = item_of(Group, line, "")
    except InvalidRequest as error:
        raise BadInput(f"{where}: {error.field}: {error.message}") from None
    if not all(isinstance(grade, int | float | None) for grade in grades):
        raise BadInput(f"{where}: grade: {json.dumps(grades)[:80]}: a grade is a number")
    if not all(isinstance(reason, str | None) for reason in reasons):
        raise BadInput(f"{where}: finish_reason: {json.dumps(reasons)[:80]}: text, as the engine said it")
    places = range(len(grades))
    known = [(at, grade) for at, grade in enumerate(grades) if grade is not None]
    better = [(at, other) for at, grade in known for other, less in known if grade > less]
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(one in places for one in pair)):
            raise BadInput(f"{where}: preferences: {json.dumps(pair)[:80]}: a pair of positions, the better first")
        better.append((pair[0], pair[1]))
    wins = [sum(high == at for high, _ in better) - sum(low == at for _, low in better) for at in places]
    best = max(places, key=wins.__getitem__) if better else None
    cut_off = [None if reason is None else reason == "length" for reason in reasons]
    return Sample(group, better, best, where, cut_off)
