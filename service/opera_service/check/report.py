"""A check's findings on the terminal, as JSON, and as one HTML page. Knows findings, no rewards."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from opera_service.check.findings import Finding, Level

VERDICTS: Mapping[Level, str] = {
    "ok": "Fit: nothing speaks against training with this reward on these data.",
    "warning": "Warnings: read them before you pay for a run.",
    "unfit": "Unfit: a run with this reward on these data would not learn what you want.",
}
LIMIT = "A reward says how close a response is to the reference, not whether it is true."
_COLOURS: Mapping[Level, str] = {"ok": "green", "warning": "yellow", "unfit": "red"}


def verdict(found: Sequence[Finding]) -> Level:
    """Return the worst level."""
    levels = {finding.level for finding in found}
    return "unfit" if "unfit" in levels else "warning" if "warning" in levels else "ok"


def show(console: Console, about: Mapping[str, str], found: Sequence[Finding]) -> None:
    """Print facts, findings by section, and the verdict."""
    for name, text in about.items():
        console.print(Text.assemble((f"{name:<12}", "bold"), text))
    for section, rows in groupby(found, key=lambda finding: finding.section):
        table = Table(
            box=None, pad_edge=False, padding=(0, 2, 0, 0), title=section.capitalize(), title_justify="left"
        )
        for heading in ("", "value", "95 %", "", ""):
            table.add_column(heading, no_wrap=heading != "")
        for row in rows:
            level = Text("" if row.level == "ok" else row.level, _COLOURS[row.level])
            table.add_row(row.name, number(row.value), _interval(row), level, Text(row.advice, "dim"))
        console.print()
        console.print(table)
    worst = verdict(found)
    console.print()
    console.print(Text(VERDICTS[worst], f"bold {_COLOURS[worst]}"))
    console.print(LIMIT)


def as_json(about: Mapping[str, str], found: Sequence[Finding]) -> dict[str, Any]:
    """Return everything as plain data; what is not finite is null."""
    rows = [{name: _finite(value) for name, value in asdict(finding).items()} for finding in found]
    return {"verdict": verdict(found), "about": dict(about), "findings": rows, "limit": LIMIT}


def write_json(path: Path, about: Mapping[str, str], found: Sequence[Finding]) -> None:
    """Write `as_json`."""
    path.write_text(json.dumps(as_json(about, found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_page(path: Path, about: Mapping[str, str], found: Sequence[Finding]) -> None:
    """Write one page without scripts that fits a telephone, too."""
    worst = verdict(found)
    parts = [
        f"<p class='{worst}'><b>{VERDICTS[worst]}</b></p>",
        "<dl>"
        + "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in about.items())
        + "</dl>",
    ]
    for section, rows in groupby(found, key=lambda finding: finding.section):
        body = "".join(map(_row, rows))
        head = "<tr><th></th><th>value</th><th>95&nbsp;%</th><th></th></tr>"
        parts.append(f"<h2>{section.capitalize()}</h2><table>{head}{body}</table>")
    template = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    path.write_text(template.replace("{{BODY}}", "".join(parts)).replace("{{LIMIT}}", LIMIT), encoding="utf-8")


def _row(finding: Finding) -> str:
    name = f"{html.escape(finding.name)}<small>{html.escape(finding.advice)}</small>"
    level = "" if finding.level == "ok" else finding.level
    cells = (name, number(finding.value), _interval(finding), level)
    return f"<tr class='{finding.level}'>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def number(value: float) -> str:
    """Return a number as people read it."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def _interval(finding: Finding) -> str:
    if finding.low is None or finding.high is None:
        return ""
    return f"{number(finding.low)} … {number(finding.high)}"


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
