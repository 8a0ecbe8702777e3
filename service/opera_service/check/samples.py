"""The user's own groups with what is known about their responses, from JSONL or Parquet.

A line is a group, or one trajectory of a group, as `score` takes them. In each trajectory may stand a `grade` (a
number, higher is better) and the `finish_reason` of its sampling (`length`: it was cut off); in a group
`preferences`, pairs `[better, worse]` of positions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_cli.exits import say
from opera_cli.source import joined, key_of, shared_of
from opera_client._parse import item_of
from opera_client.errors import BadInput, InvalidRequest
from opera_client.files.lines import Lines
from opera_client.wire import Group

_Rows = list[tuple[int, dict[str, Any]]]
"""Lines with their numbers."""


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
    groups: dict[bytes | int, _Rows] = {}
    for number, _, line in lines.scan():
        groups.setdefault(number if "trajectories" in line else key_of(line), []).append((number, line))
    lines.close()
    if not groups:
        raise BadInput(f"{lines.name}: no groups")
    rows = list(groups.values())
    chosen = rows if len(rows) <= limit else [rows[at * len(rows) // limit] for at in range(limit)]
    unused: set[str] = set()
    samples = [_sample(lines, one, unused) for one in chosen]
    if unused:
        say(f"{lines.name}: fields that are not used: {', '.join(sorted(unused))}")
    return samples


def _sample(lines: Lines, rows: _Rows, unused: set[str]) -> Sample:
    """Return the group of one line, or of flat ones; adds to `unused` what it leaves out."""
    number, first = rows[0]
    if "trajectories" in first:
        line = {name: value for name, value in first.items() if name in Group.model_fields}
        given = line["trajectories"] if isinstance(line["trajectories"], list) else []
        grades = [one.pop("grade", None) if isinstance(one, dict) else None for one in given]
        reasons = [one.pop("finish_reason", None) if isinstance(one, dict) else None for one in given]
        unused |= first.keys() - line.keys() - {"preferences"}
    else:
        for other, row in rows:
            if shared_of(row) != shared_of(first):
                raise lines.wrong(
                    other, f"another prompt, reference or task than {lines.unit} {number} of its group"
                )
        line = joined([row for _, row in rows])
        grades = [row.get("grade") for _, row in rows]
        reasons = [row.get("finish_reason") for _, row in rows]
        used = {"grade", "finish_reason", *line, *(name for one in line["trajectories"] for name in one)}
        unused |= {name for _, row in rows for name in row} - used
    try:
        group = item_of(Group, line, "")
    except InvalidRequest as error:
        raise lines.wrong(number, f"{error.field}: {error.message}" if error.field else error.message) from None
    if not all(grade is None or (isinstance(grade, int | float) and abs(grade) < math.inf) for grade in grades):
        raise lines.wrong(number, f"grade: {json.dumps(grades)[:80]}: a grade is a finite number")
    if not all(isinstance(reason, str | None) for reason in reasons):
        raise lines.wrong(number, f"finish_reason: {json.dumps(reasons)[:80]}: text, as the engine said it")
    places = range(len(grades))
    known = [(at, grade) for at, grade in enumerate(grades) if grade is not None]
    better = [(at, other) for at, grade in known for other, less in known if grade > less]
    better += _preferences(lines, number, first.get("preferences"), places)
    wins = [sum(high == at for high, _ in better) - sum(low == at for _, low in better) for at in places]
    best = max(places, key=wins.__getitem__) if better else None
    cut_off = [None if reason is None else reason == "length" for reason in reasons]
    return Sample(group, better, best, f"{lines.name}, {lines.unit} {number}", cut_off)


def _preferences(lines: Lines, number: int, given: object, places: range) -> list[tuple[int, int]]:
    """Return the pairs of positions that a group gives, the better first."""
    pairs: list[Any] = [] if given is None else given if isinstance(given, list) else [given]
    for pair in pairs:
        whole = isinstance(pair, list) and len(pair) == 2 and all(type(one) is int for one in pair)
        if not whole or not all(one in places for one in pair):
            what = f"preferences: {json.dumps(pair)[:80]}: give a list of pairs of positions, the better first"
            raise lines.wrong(number, what)
    return [(pair[0], pair[1]) for pair in pairs]
