"""From the figures of a GPU run to Markdown tables: on the terminal, or between the marks in docs/performance.md.

python -m gpu.report OUT [--part NAME] [--into FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"
PARTS = ("exactness", "throughput", "over_http", "weight_push", "grpo")


@dataclass(frozen=True)
class Table:
    """How the rows of one table are shown."""

    part: str
    name: str
    title: str
    columns: dict[str, tuple[str, str]]
    """Heading -> key of the figure and its format."""
    target: str = ""
    reached: Callable[[Sequence[Row]], bool] | None = None
    longest: int | None = None
    """Rows that are shown, evenly spread where there are more."""


def best(key: str, rows: Sequence[Row]) -> float:
    return max((row[key] for row in rows if row.get(key) is not None), default=float("-inf"))


def least_over_authors(rows: Sequence[Row]) -> float:
    """Return the smallest speed-up over the authors' way, where that fits into memory."""
    return min((row["tree_is_faster"] for row in rows if row["way"] == "authors" and row["seconds"]), default=0.0)


TABLES = (
    Table(
        "exactness",
        "exactness",
        "Log-probabilities against plain forwards, nats a token",
        {
            "model": ("model", ""),
            "dtype": ("dtype", ""),
            "route": ("route", ""),
            "mean off float64": ("mean_off_float64", ".1e"),
            "most off float64": ("most_off_float64", ".1e"),
            "most off float32": ("most_off_float32", ".1e"),
            "mean ÷ naive's": ("times_naive", ".2f"),
        },
        "float32 within 2e-5 of float64; in bfloat16 a mean error at most 1.2 times that of plain forwards",
        lambda rows: all(row["met"] for row in rows),
    ),
    Table(
        "exactness",
        "compilation",
        "What flex takes to compile for a new length (bfloat16)",
        {"tokens": ("tokens", ","), "first call s": ("first_s", ".2f"), "again s": ("again_s", ".3f")},
    ),
    Table(
        "exactness",
        "tests",
        "The engine's tests on this device",
        {"passed": ("passed", ""), "failed": ("failed", ""), "skipped": ("skipped", "")},
        "none fails",
        lambda rows: all(row["failed"] == row["exit_code"] == 0 for row in rows),
    ),
    Table(
        "throughput",
        "peak",
        "What the card does at best",
        {
            "bf16 matrix product, n": ("matrix", ","),
            "TFLOP/s": ("tflops", ".0f"),
            "copy TB/s": ("copy_tb_s", ".2f"),
        },
    ),
    Table(
        "throughput",
        "tree",
        "An 8B-shaped random model in bfloat16, flex",
        {
            "n,S,R,G": ("point", ""),
            "tokens: naive": ("tokens_naive", ","),
            "tree": ("tokens_tree", ","),
            "s": ("seconds", ".2f"),
            "tokens/s": ("tokens_per_s", ",.0f"),
            "trajectories/s": ("trajectories_per_s", ".2f"),
            "share of the peak": ("utilisation", ".2f"),
            "÷ plain forward's tokens/s": ("over_plain_forward", ".2f"),
            "memory GB": ("memory_gb", ".1f"),
        },
        "0.50 of the measured peak, then 0.65",
        lambda rows: best("utilisation", rows) >= 0.5,
    ),
    Table(
        "throughput",
        "baselines",
        "The same contexts in the authors' way and by the fair baseline",
        {
            "n,S,R,G": ("point", ""),
            "way": ("way", ""),
            "s": ("seconds", ".2f"),
            "tree is faster": ("tree_is_faster", ".1f"),
            "FLOPs ÷ tree's": ("flop_ratio", ".1f"),
            "memory GB": ("memory_gb", ".1f"),
        },
        "everywhere 10 times faster than the authors' way",
        lambda rows: least_over_authors(rows) >= 10,
    ),
    Table(
        "throughput",
        "routes",
        "Seconds of each route by size",
        {
            "tokens": ("tokens", ","),
            "flex": ("flex_s", ".4f"),
            "tree_sdpa": ("tree_sdpa_s", ".4f"),
            "kv_fork": ("kv_fork_s", ".4f"),
        },
    ),
    Table(
        "over_http",
        "first_reward",
        "Time to the first reward",
        {
            "route": ("route", ""),
            "model in memory s": ("model_ready_s", ".1f"),
            "first reward after that s": ("first_reward_s", ".2f"),
            "one client alone ms": ("alone_ms", ".0f"),
        },
    ),
    Table(
        "over_http",
        "served",
        "Over HTTP",
        {
            "clients": ("clients", ""),
            "groups": ("groups", ""),
            "tokens": ("tokens", ","),
            "trees a batch": ("trees_a_batch", ".1f"),
            "served s": ("served_s", ".2f"),
            "bare engine s": ("bare_s", ".2f"),
            "served ÷ bare": ("served_over_bare", ".3f"),
            "tokens/s": ("tokens_per_s", ",.0f"),
            "p50 ms": ("p50_ms", ".0f"),
            "p95 ms": ("p95_ms", ".0f"),
        },
        "at most 1.05 over the bare engine",
        lambda rows: sorted(row["served_over_bare"] for row in rows)[len(rows) // 2] <= 1.05,
    ),
    Table(
        "weight_push",
        "written",
        "The checkpoint",
        {"GB": ("gb", ".1f"), "in memory": ("in_memory", ""), "written in s": ("seconds", ".1f")},
    ),
    Table(
        "weight_push",
        "pushed",
        "New weights under load",
        {
            "GB": ("gb", ".1f"),
            "load s": ("seconds", ".1f"),
            "GB/s": ("gb_per_s", ".2f"),
            "requests": ("requests", ""),
            "failed": ("failed", ""),
            "usual ms": ("usual_ms", ".0f"),
            "slowest before ms": ("slowest_before_ms", ".0f"),
            "slowest during ms": ("slowest_during_ms", ".0f"),
            "longest time without an answer before ms": ("usual_gap_ms", ".0f"),
            "during ms": ("pause_ms", ".0f"),
        },
        "no request fails",
        lambda rows: all(row["failed"] == 0 for row in rows),
    ),
    Table(
        "grpo",
        "held_out",
        "GRPO on open tasks: held-out tasks before and after",
        {
            "run": ("cell", ""),
            "": ("when", ""),
            "steps": ("steps", ""),
            "reward": ("reward", ".3f"),
            "gain nats": ("gain", ".3f"),
            "words shared with the second reference": ("words", ".3f"),
            "tokens": ("tokens", ".0f"),
            "ended": ("ended", ".2f"),
            "empty": ("empty", ".2f"),
        },
    ),
    Table(
        "grpo",
        "curve",
        "GRPO on open tasks: the run",
        {
            "run": ("cell", ""),
            "step": ("step", ""),
            "reward": ("reward", ".3f"),
            "gain nats": ("gain", ".3f"),
            "words": ("words", ".3f"),
            "tokens": ("tokens", ".0f"),
            "ended": ("ended", ".2f"),
            "sample s": ("sample_s", ".1f"),
            "score s": ("score_s", ".1f"),
            "train s": ("train_s", ".1f"),
        },
        longest=24,
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu.report", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--into", type=Path, help="put the tables between the marks of this file")
    options = parser.parse_args(arguments)
    runs = read(options.out, [options.part] if options.part else PARTS)
    lines = "\n".join(report(runs))
    if options.into is None:
        print(lines)
        return 0
    if any(run["dry_run"] for run in runs.values()) or not runs:
        print(f"{options.out} holds no run on a GPU; a rehearsal's figures are no evidence", file=sys.stderr)
        return 1
    text = options.into.read_text(encoding="utf-8")
    before, mark, rest = text.partition(BEGIN)
    _, other, after = rest.partition(END)
    if not (mark and other):
        print(f"{options.into} lacks the lines {BEGIN} and {END}", file=sys.stderr)
        return 1
    options.into.write_text(f"{before}{BEGIN}\n{lines}\n{END}{after}", encoding="utf-8")
    return 0


def read(out: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Return what was measured, part by part; parts that never began are left out."""
    runs = {}
    for part in parts:
        found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(out.glob(f"{part}*.json"))]
        if found:
            runs[part] = joined(found)
    return runs


def joined(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one part's cells as one run, whose rows say of which cell they are."""
    tables: dict[str, list[Row]] = {}
    for run in cells:
        for name, rows in run["tables"].items():
            tables.setdefault(name, []).extend({"cell": run.get("cell", ""), **row} for row in rows)
    finished = all(run["finished"] for run in cells)
    return {**cells[0], "tables": tables, "finished": finished, "seconds": max(run["seconds"] for run in cells)}


def report(runs: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a report: the machine once, then every table that has rows."""
    seen: list[Any] = []
    for part, run in runs.items():
        about = {name: value for name, value in run["about"].items() if name != "date"}
        if about not in seen:
            seen.append(about)
            yield f"{run['about']['date']}: " + ", ".join(f"{name} {value}" for name, value in about.items()) + "."
            yield ""
        if run["dry_run"]:
            yield f"**{part}: a rehearsal on a CPU; these figures mean nothing.**"
            yield ""
        if not run["finished"]:
            yield ""
            yield f"**{part} was cut after {run['seconds']:.0f} s; this is what it had.**"
            yield ""
        for table in TABLES:
            rows = run["tables"].get(table.name, ()) if table.part == part else ()
            if rows:
                yield from _table(table, rows, run["finished"])


def _table(table: Table, rows: Sequence[Row], finished: bool) -> Iterator[str]:
    yield ""
    yield f"**{table.title}**"
    yield ""
    yield "| " + " | ".join(table.columns) + " |"
    yield "|" + "---|" * len(table.columns)
    shown = rows
    if table.longest is not None and len(rows) > table.longest:
        shown = [rows[round(place * (len(rows) - 1) / (table.longest - 1))] for place in range(table.longest)]
    for row in shown:
        yield "| " + " | ".join(_cell(row.get(key), form) for key, form in table.columns.values()) + " |"
    if table.reached is not None:
        yield ""
        met = "**Met.**" if finished else "**Met by what was measured.**"
        yield f"Target: {table.target}. {met if table.reached(rows) else '**Missed.**'}"


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return format(value, form)


if __name__ == "__main__":
    sys.exit(main())
