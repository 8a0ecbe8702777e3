"""What lists ask of the kept groups: filters, orders, pages, and what a page is counted from.

SQL over the log's tables; objects come from `rows`. Knows no HTTP.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opera_service.ui.rows import group_row, trajectory_row
from opera_service.ui.visible import VISIBLE, WINDOW, of_run

BINS = 24
Question = Literal["earns_most", "equal", "longer_is_better", "duplicates"]

_JOINED = "trajectories AS t JOIN groups AS g ON g.key = t.group_key"
_COLUMNS = {"reward": "t.reward", "tokens": "t.response_tokens", "level": "t.mean_logprob"}

# The best and the worst earn the same, and something.
_EQUAL = """g.key IN (SELECT group_key FROM trajectories WHERE reward IS NOT NULL GROUP BY group_key
  HAVING count(*) > 1 AND max(reward) - min(reward) <= 1e-9 AND max(reward) > 0)"""
# No longer member is paid less than a shorter one, and lengths and rewards differ.
_LONGER = """g.key IN (SELECT group_key FROM trajectories WHERE reward IS NOT NULL AND response_tokens IS NOT NULL
  GROUP BY group_key HAVING count(*) > 2 AND max(reward) - min(reward) > 1e-9
  AND max(response_tokens) >= 1.2 * min(response_tokens))
  AND NOT EXISTS (SELECT 1 FROM trajectories AS a JOIN trajectories AS b USING (group_key)
  WHERE group_key = g.key AND a.response_tokens > b.response_tokens AND a.reward < b.reward)"""


@dataclass(frozen=True)
class Filter:
    """Which trajectories, in which order; None is no condition."""

    run: str | None = None
    first_step: int | None = None
    last_step: int | None = None
    flag: str | None = None
    reward_min: float | None = None
    reward_max: float | None = None
    text: str | None = None
    question: Question | None = None
    sort: str | None = None
    """`reward`, `tokens`, `level` or `components.NAME`; by default the newest come first."""
    descending: bool = True

    def groups(self) -> tuple[str, list[Any]]:
        """Return the condition on groups alone, and its values."""
        parts = [VISIBLE, f"g.key > (SELECT coalesce(max(key), 0) FROM groups) - {WINDOW}"]
        values: list[Any] = []
        if self.run is not None:
            part, own = of_run(self.run)
            parts.append(part)
            values += own
        for condition, bound in (("g.step >= ?", self.first_step), ("g.step <= ?", self.last_step)):
            if bound is not None:
                parts.append(condition)
                values.append(bound)
        return " AND ".join(parts), values

    def trajectories(self, *, rewards: bool = True) -> tuple[str, list[Any]]:
        """Return the condition on trajectories; without `rewards`, whatever they earned."""
        where, values = self.groups()
        parts = [where]
        if self.flag is not None:
            parts.append("EXISTS (SELECT 1 FROM json_each(t.flags) WHERE value = ?)")
            values.append(self.flag)
        if self.text is not None:
            names = ("t.response", "t.id", "g.group_id", "g.prompt", "g.reference")
            parts.append("(" + " OR ".join(f"{name} LIKE ? ESCAPE '\\'" for name in names) + ")")
            values += [_pattern(self.text)] * len(names)
        if self.question == "equal":
            parts.append(_EQUAL)
        elif self.question == "longer_is_better":
            parts.append(_LONGER)
        for condition, bound in (("t.reward >= ?", self.reward_min), ("t.reward <= ?", self.reward_max)):
            if rewards and bound is not None:
                parts.append(condition)
                values.append(bound)
        return " AND ".join(parts), values

    def order(self) -> tuple[str, list[Any]]:
        """Return the order in SQL, and its values; what has no such number comes last."""
        if self.question == "earns_most":
            return "t.reward IS NULL, t.reward DESC, g.key DESC, t.position", []
        if self.question in ("equal", "longer_is_better"):
            by = "max(t.reward)" if self.question == "equal" else "max(t.response_tokens)"
            return f"{by} OVER (PARTITION BY t.group_key) DESC, g.key DESC, t.response_tokens DESC", []
        if self.sort is None:
            return f"g.key {'DESC' if self.descending else 'ASC'}, t.position", []
        way = "DESC" if self.descending else "ASC"
        name = self.sort.removeprefix("components.")
        if self.sort in _COLUMNS:
            return f"{_COLUMNS[self.sort]} IS NULL, {_COLUMNS[self.sort]} {way}, g.key DESC, t.position", []
        path = f'$."{name}"'
        value = "json_extract(t.components, ?)"
        return f"{value} IS NULL, {value} {way}, g.key DESC, t.position", [path, path]


def groups_page(connection: sqlite3.Connection, asked: Filter, offset: int, limit: int) -> dict[str, Any]:
    """Return a page of groups, newest first: those with a trajectory that matches."""
    where, values = asked.groups()
    if asked.flag or asked.text or asked.question or asked.reward_min is not None or asked.reward_max is not None:
        inner, inner_values = asked.trajectories()
        where, values = f"g.key IN (SELECT t.group_key FROM {_JOINED} WHERE {inner})", inner_values
    total = connection.execute(f"SELECT count(*) FROM groups AS g WHERE {where}", values).fetchone()[0]
    found = connection.execute(
        f"SELECT * FROM groups AS g WHERE {where} ORDER BY g.key DESC LIMIT ? OFFSET ?", [*values, limit, offset]
    ).fetchall()
    members = members_of(connection, [group["key"] for group in found])
    rows = [group_row(group, members[group["key"]]) for group in found]
    return {"total": total, "rows": rows, "histogram": None if offset else histogram(connection, asked)}


def trajectories_page(connection: sqlite3.Connection, asked: Filter, offset: int, limit: int) -> dict[str, Any]:
    """Return a page of trajectories; the first one with what can be chosen among all that match."""
    where, values = asked.trajectories()
    order, more = asked.order()
    total = connection.execute(f"SELECT count(*) FROM {_JOINED} WHERE {where}", values).fetchone()[0]
    found = connection.execute(
        f"SELECT t.group_key, t.position FROM {_JOINED} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?",
        [*values, *more, limit, offset],
    ).fetchall()
    facets = facets_of(connection, asked) if not offset else {"histogram": None, "flags": {}, "components": []}
    return {"total": total, "rows": rows_of(connection, [(row[0], row[1]) for row in found]), **facets}


def rows_of(connection: sqlite3.Connection, places: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return the trajectories at (group key, position), in that order."""
    keys = list(dict.fromkeys(key for key, _ in places))
    members = members_of(connection, keys)
    marks = ",".join("?" * len(keys))
    groups = {row["key"]: row for row in connection.execute(f"SELECT * FROM groups WHERE key IN ({marks})", keys)}
    return [trajectory_row(groups[key], members[key], position) for key, position in places]


def members_of(
    connection: sqlite3.Connection, keys: Sequence[int], *, columns: str = "*"
) -> dict[int, list[sqlite3.Row]]:
    """Return the trajectories of groups, in order, by the groups' keys; `group_key` is among the columns."""
    found: dict[int, list[sqlite3.Row]] = defaultdict(list)
    marks = ",".join("?" * len(keys))
    sql = f"SELECT {columns} FROM trajectories WHERE group_key IN ({marks}) ORDER BY group_key, position"
    for row in connection.execute(sql, list(keys)):
        found[row["group_key"]].append(row)
    return found


def facets_of(connection: sqlite3.Connection, asked: Filter) -> dict[str, Any]:
    """Return what all that match can be told apart by: rewards, flags, components."""
    where, values = asked.trajectories()
    flags: Counter[str] = Counter()
    for text, count in connection.execute(
        f"SELECT t.flags, count(*) FROM {_JOINED} WHERE {where} GROUP BY t.flags", values
    ):
        for flag in json.loads(text):
            flags[flag] += count
    components = connection.execute(
        "SELECT DISTINCT one.key FROM (SELECT DISTINCT g.config_hash AS hash, min(t.components) AS components "
        f"FROM {_JOINED} WHERE {where} GROUP BY g.config_hash) AS kinds, json_each(kinds.components) AS one",
        values,
    )
    return {
        "histogram": histogram(connection, asked),
        "flags": dict(flags.most_common()),
        "components": [row[0] for row in components],
    }


def histogram(connection: sqlite3.Connection, asked: Filter) -> dict[str, Any] | None:
    """Count the rewards of all that match but for the range of rewards; None where there are none."""
    where, values = asked.trajectories(rewards=False)
    found = f"FROM {_JOINED} WHERE {where} AND t.reward IS NOT NULL"
    low, high = connection.execute(f"SELECT min(t.reward), max(t.reward) {found}", values).fetchone()
    if low is None:
        return None
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / BINS
    counts = [0] * BINS
    for place, count in connection.execute(
        f"SELECT min({BINS - 1}, CAST((t.reward - ?) / ? AS INTEGER)) AS bin, count(*) {found} GROUP BY bin",
        [low, width, *values],
    ):
        counts[place] = count
    return {"low": low, "high": high, "counts": counts}


def _pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
