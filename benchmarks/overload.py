"""What is left of the service when far more is asked of it than it can do: goodput and latency by offered load.

    opera-reward bench overload --seconds 15 --json FILE

An `opera-reward serve` process whose dummy engine computes a fixed number of tokens a second gets requests at
random times (open loop: nobody waits for an answer before the next one is sent, nobody retries), each with a
deadline. Good is an answer with rewards within its deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from serving import make_group, server

LOADS = (0.5, 1.0, 2.0, 4.0)
"""Multiples of what the engine can do."""


@dataclass(frozen=True)
class Outcome:
    """One request."""

    status: int
    """HTTP status; 0 without an answer."""
    seconds: float


def summarise(load: float, outcomes: list[Outcome], seconds: float, deadline_s: float) -> dict[str, Any]:
    """Return the row of one load; `seconds` is the time from the first request to the last answer."""
    good = [one.seconds for one in outcomes if one.status == 200 and one.seconds <= deadline_s]
    accepted = sorted(one.seconds for one in outcomes if one.status == 200)
    refused = [one.seconds for one in outcomes if one.status in (429, 503)]
    return {
        "load": load,
        "sent": len(outcomes),
        "goodput_per_s": len(good) / seconds,
        "late": len(accepted) - len(good),
        "p50_s": statistics.median(accepted) if accepted else None,
        "p99_s": accepted[math.ceil(0.99 * len(accepted)) - 1] if accepted else None,
        "refused_p50_s": statistics.median(refused) if refused else None,
        "statuses": dict(sorted(Counter(one.status for one in outcomes).items())),
    }


async def offer(
    url: str, bodies: list[bytes], per_second: float, seconds: float, deadline_s: float
) -> tuple[list[Outcome], float]:
    """Send `bodies` in turn at random times, `per_second` on average; return what became of each, and the time."""
    dice = random.Random(0)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=None)) as client:

        async def ask(body: bytes) -> Outcome:
            started = time.perf_counter()
            deadline = {"X-Request-Deadline": str(time.time() + deadline_s)}
            try:
                status = (await client.post("/reward", content=body, headers=deadline)).status_code
            except httpx.TransportError:
                status = 0
            return Outcome(status, time.perf_counter() - started)

        tasks = []
        start = due = time.perf_counter()
        while (due := due + dice.expovariate(per_second)) < start + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(bodies[len(tasks) % len(bodies)])))
        return await asyncio.gather(*tasks), time.perf_counter() - start


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return one row a load."""
    groups = [make_group(seed, 2, 2, 6) for seed in range(64)]
    bodies = [json.dumps({"groups": [group], "detail": "reward"}).encode() for group in groups]
    flags = ["--engine", "dummy", "--dummy-token-seconds", str(1 / options.tokens_per_second)]
    flags += ["--max-batch-tokens", str(options.batch)]
    with server(*flags) as url:
        warm = [
            httpx.post(f"{url}/reward", content=body).json()["usage"]["tokens_computed"] for body in bodies[:16]
        ]
        capacity = options.tokens_per_second / statistics.mean(warm)
        rows = []
        for load in LOADS:
            offered = offer(url, bodies, load * capacity, options.seconds, options.deadline)
            rows.append(summarise(load, *asyncio.run(offered), options.deadline))
        metrics = httpx.get(f"{url}/metrics").text
    peak = max(row["goodput_per_s"] for row in rows)
    return {
        "capacity_per_s": capacity,
        "tokens_per_request": statistics.mean(warm),
        "deadline_s": options.deadline,
        "rows": rows,
        "goodput_at_most_load_over_peak": rows[-1]["goodput_per_s"] / peak,
        "rejected": [line for line in metrics.splitlines() if line.startswith("opera_rejected_total")],
        "dropped": [line for line in metrics.splitlines() if line.startswith("opera_dropped_trees_total")],
    }


def show(report: dict[str, Any]) -> None:
    """Print the report as a Markdown table."""
    print(
        "| offered ÷ capacity | sent | good/s | p50 s | p99 s | late | statuses |\n|---|---|---|---|---|---|---|"
    )
    for row in report["rows"]:
        statuses = ", ".join(f"{count} × {status}" for status, count in row["statuses"].items())
        times = ["" if row[name] is None else f"{row[name]:.2f}" for name in ("p50_s", "p99_s")]
        cells = [f"{row['load']:g}", row["sent"], f"{row['goodput_per_s']:.1f}", *times, row["late"], statuses]
        print("|", " | ".join(map(str, cells)), "|")
    print(f"\ncapacity {report['capacity_per_s']:.1f}/s; goodput at the highest load ÷ peak: "
          f"{report['goodput_at_most_load_over_peak']:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seconds", type=float, default=15.0, help="of every load (default: %(default)s)")
    add("--deadline", type=float, default=2.0, help="of every request, in seconds (default: %(default)s)")
    add("--tokens-per-second", type=float, default=6000.0, help="of the engine (default: %(default)s)")
    add("--batch", type=int, default=2000, help="tokens per engine call (default: %(default)s)")
    add("--json", type=Path, help="write everything that was measured here")
    options = parser.parse_args()
    report = measure(options)
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
