"""One hostile client beside honest ones: what do those notice?

    python benchmarks/hostile.py [--seconds 8] [--only TEXT …] [--attackers-on CPUS] [--json FILE]

An `opera-reward serve` process with the dummy engine gets a steady load of honest requests, `/reward` and
`/reward/member`, first alone, then beside each attack of `attacks.py`. *Wrong* answers differ from those of the
quiet service, *lost* ones never came. Targets: `/livez` within 250 ms at all times, the honest p99 at most three
times the quiet one, at most 256 MB more memory, nothing wrong, lost or untyped. Exits with 1 otherwise.

Every row is beside a quiet stretch of its own, taken just before it: times are told as multiples of that, too, as
a machine's own noise is in both. An attacker on the service's core measures the scheduler of the machine;
`--attackers-on 1` gives attackers core 1, and the service and its honest callers the others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from attacks import NAMES
from serving import PRESET, make_group, server_process

GROUPS = [make_group(seed, 4, 3, 8) for seed in range(24)]
PACE_S = 0.1
"""Between two honest requests of one client; there are four."""
QUIET_S = 4.0
"""Before every attack."""
AFTERMATH_S = 2.0
"""An attack's row goes on after the attacker died: its connections die with it."""


@dataclass
class Row:
    """What honest callers noticed of one attack."""

    attack: str
    quiet_p99_ms: float = 0.0
    """Just before it."""
    quiet_livez_max_ms: float = 0.0
    livez_max_ms: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    asked: int = 0
    wrong: int = 0
    lost: int = 0
    memory_mb: float = 0.0
    """Peak of the service and its worker processes."""
    memory_after_mb: float = 0.0
    """What of it was left at the end."""
    said: dict[str, int] = field(default_factory=dict)

    def misses(self, first: Row) -> list[str]:
        """Return the targets that were missed; `first` is the service before any attack."""
        found = {
            "/livez": self.livez_max_ms > 250,
            "p99": self.p99_ms > 3 * self.quiet_p99_ms,
            "memory": self.memory_mb > first.memory_mb + 256,
            "wrong": self.wrong > 0,
            "lost": self.lost > 0,
            "untyped": self.said.get("untyped", 0) > 0,
            "long errors": self.said.get("long", 0) > 0,
        }
        return [name for name, missed in found.items() if missed]


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process and all its children."""
    total = 0.0
    with contextlib.suppress(OSError, ValueError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        if found := re.search(r"VmRSS:\s+(\d+)", status):  # a process that has just ended has none
            total += int(found[1]) / 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="utf-8").split():
                total += memory_mb(int(child))
    return total


async def rewards_of(client: httpx.AsyncClient, number: int) -> list[float | None]:
    """Ask for one group as a caller with patience does: what is refused for a while is asked again."""
    while True:
        answer = await client.post(
            "/reward", json={"groups": [GROUPS[number]], "preset": PRESET, "run_id": "honest"}
        )
        if answer.status_code not in (429, 503):
            answer.raise_for_status()
            return [one["reward"] for one in answer.json()["groups"][0]["trajectories"]]
        await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))


async def members_of(client: httpx.AsyncClient, number: int, name: str) -> list[float | None]:
    """Ask for the same group member by member."""
    group = GROUPS[number]

    async def one(place: int) -> float | None:
        request = {
            "run_id": "honest", "preset": PRESET, "group_id": name, "group_size": len(group["trajectories"]),
            "member_id": str(place), "prompt": group["prompt"], "reference": group["reference"],
            **group["trajectories"][place],
        }  # fmt: skip
        while True:
            answer = await client.post("/reward/member", json=request)
            if answer.status_code not in (429, 503):
                answer.raise_for_status()
                return answer.json()["reward"]
            await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))

    return list(await asyncio.gather(*(one(place) for place in range(len(group["trajectories"])))))


async def watched(url: str, pid: int, row: Row, expected: list[list[float | None]], busy: Awaitable[Any]) -> None:
    """Load the service honestly until `busy` is done, and write into `row` what that was like."""
    done = asyncio.ensure_future(busy)
    seconds: list[float] = []

    async def honest(client: httpx.AsyncClient, start: int) -> None:
        number = start
        while not done.done():
            started = time.perf_counter()
            place = number % len(GROUPS)
            row.asked += 1
            try:
                async with asyncio.timeout(60):
                    if start == 0:
                        got = await members_of(client, place, f"{row.attack}-{number}")
                    else:
                        got = await rewards_of(client, place)
            except (TimeoutError, httpx.HTTPError, ValueError, KeyError):
                row.lost += 1
            else:
                row.wrong += got != expected[place]
                seconds.append(time.perf_counter() - started)
            number += 1
            await asyncio.sleep(PACE_S)

    async def alive(client: httpx.AsyncClient) -> None:
        while not done.done():
            started = time.perf_counter()
            with contextlib.suppress(httpx.HTTPError):
                await client.get("/livez")
            row.livez_max_ms = max(row.livez_max_ms, 1000 * (time.perf_counter() - started))
            row.memory_after_mb = memory_mb(pid)
            row.memory_mb = max(row.memory_mb, row.memory_after_mb)
            await asyncio.sleep(0.02)

    async with httpx.AsyncClient(base_url=url, timeout=60) as client, httpx.AsyncClient(base_url=url) as prober:
        await asyncio.gather(alive(prober), *(honest(client, start) for start in range(4)), done)
    seconds.sort()
    if seconds:
        row.p50_ms = 1000 * seconds[len(seconds) // 2]
        row.p99_ms = 1000 * seconds[math.ceil(0.99 * len(seconds)) - 1]


async def attacked(name: str, url: str, options: argparse.Namespace, row: Row) -> None:
    """Run one attack in a process of its own."""
    cores = options.attackers_on or os.sched_getaffinity(0)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("attacks.py")), name, url, str(options.seconds),
        stdout=asyncio.subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    said, _ = await process.communicate()
    await asyncio.sleep(AFTERMATH_S)
    row.said = json.loads(said) if said else {"attacker died": 1}


async def measure(options: argparse.Namespace) -> list[Row]:
    """Return one row for the quiet service, and one an attack."""
    names = [name for name in NAMES if not options.only or any(part in name for part in options.only)]
    rows: list[Row] = []
    with server_process("--engine", options.engine) as (url, pid):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            expected = [await rewards_of(client, number) for number in range(len(GROUPS))]
        if len(set(map(tuple, expected))) < len(GROUPS):
            raise SystemExit("some groups have the same rewards: an exchange would not be seen")
        show_head()
        for name in ("none", *names):
            quiet, row = Row("quiet"), Row(name)
            rows.append(row)
            await watched(url, pid, quiet, expected, asyncio.sleep(QUIET_S))
            row.quiet_p99_ms, row.quiet_livez_max_ms = quiet.p99_ms, quiet.livez_max_ms
            attack = asyncio.sleep(QUIET_S) if name == "none" else attacked(name, url, options, row)
            await watched(url, pid, row, expected, attack)
            show(row, rows[0])
    return rows


def cpus(text: str) -> set[int]:
    """Return the cores that `text` names."""
    return {int(one) for one in text.split(",")}


def show_head() -> None:
    """Print the head of a Markdown table."""
    titles = (
        "attack", "/livez max ms", "quiet", "honest p50 ms", "p99 ms", "quiet", "ratio", "memory MB", "at its end",
        "asked", "wrong", "lost", "its answers", "missed",
    )  # fmt: skip
    print("|", " | ".join(titles), "|\n" + "|---" * len(titles) + "|")


def show(row: Row, first: Row) -> None:
    """Print one row."""
    said = ", ".join(f"{count} × {name}" for name, count in row.said.items() if count)
    cells = [
        row.attack, f"{row.livez_max_ms:.0f}", f"{row.quiet_livez_max_ms:.0f}", f"{row.p50_ms:.0f}",
        f"{row.p99_ms:.0f}", f"{row.quiet_p99_ms:.0f}", f"{row.p99_ms / row.quiet_p99_ms:.1f}",
        f"{row.memory_mb:.0f}", f"{row.memory_after_mb:.0f}", row.asked, row.wrong, row.lost, said,
        ", ".join(row.misses(first)),
    ]  # fmt: skip
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    """Measure, print, and fail when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seconds", type=float, default=8.0, help="of every attack (default: %(default)s)")
    add("--only", nargs="+", default=[], help="attacks whose name holds one of these")
    add("--attackers-on", type=cpus, metavar="CPUS", help="cores of the attackers alone, as in 1 or 2,3")
    add("--engine", default="dummy", help="of the service (default: %(default)s)")
    add("--json", type=Path, help="write everything that was measured here")
    options = parser.parse_args()
    if options.attackers_on:
        ours = os.sched_getaffinity(0) - options.attackers_on
        if not ours or not options.attackers_on <= os.sched_getaffinity(0):
            parser.error("--attackers-on: name cores of this machine, and leave one for the service")
        os.sched_setaffinity(0, ours)  # the service and the honest callers are children
    rows = asyncio.run(measure(options))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    sys.exit(any(row.misses(rows[0]) for row in rows))


if __name__ == "__main__":
    main()
