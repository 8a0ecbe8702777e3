"""Mixed traffic for minutes, new weights every minute: every answer right, memory and file descriptors flat.

    python benchmarks/soak.py --minutes 10 [--rate 20] [--keep-s 600] [--json FILE]

Groups, groups member by member and rankings, from eight clients, on the torch engine with the embedded model; the
pushed weights are its own, so that every answer can be compared. What the service keeps for a time (answers of
members, mostly) it keeps for a sixth of the run, unless `--keep-s` says how long: by the middle third as much
leaves as comes. Memory is sampled every ten seconds; the last third may be larger than the middle one by a
twentieth at most, and use no more file descriptors; sockets are as many as the clients hold. Else it exits with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opera_client import AsyncRewardClient
from opera_service.server.settings import Settings
from serving import PRESET, make_group

CLIENTS = 8
GROUPS = [make_group(seed, 4, 3, 8) for seed in range(24)]
SAMPLE_S, PUSH_S = 10.0, 60.0
SOCKETS = 6 * CLIENTS
"""As many as the clients may hold open: four members each at a time, some that rest, and the listening one."""
TOLERANCE = 1e-5
"""Rewards may differ by rounding: which trees share a batch depends on the traffic."""


@dataclass
class Soak:
    """What was asked, answered and used."""

    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    pushes: int = 0
    memory_mb: list[float] = field(default_factory=list)
    descriptors: list[dict[str, int]] = field(default_factory=list)
    """By what they are: sockets, files, …"""

    def thirds(self, values: list[float]) -> tuple[float, float]:
        """Medians of the middle and the last third."""
        third = len(values) // 3
        return statistics.median(values[third : 2 * third]), statistics.median(values[2 * third :])

    def verdict(self) -> dict[str, Any]:
        """Return the figures, and whether all is well."""
        memory = self.thirds(self.memory_mb)
        descriptors = self.thirds([float(sum(kinds.values()) - kinds["socket"]) for kinds in self.descriptors])
        sockets = max(kinds["socket"] for kinds in self.descriptors)
        return {
            "asked": self.asked,
            "wrong": len(self.wrong),
            "failed": len(self.failed),
            "why": (self.wrong + self.failed)[:3],
            "pushes": self.pushes,
            "memory_mb_middle_last": memory,
            "descriptors_middle_last": descriptors,
            "most_sockets": sockets,
            "well": not self.wrong
            and not self.failed
            and memory[1] <= 1.05 * memory[0]
            and descriptors[1] <= descriptors[0]
            and sockets <= SOCKETS,
        }


def near(found: list[float | None], expected: list[float | None]) -> bool:
    return all(
        a is not None and b is not None and abs(a - b) <= TOLERANCE for a, b in zip(found, expected, strict=True)
    )


async def ask(
    client: AsyncRewardClient,
    soak: Soak,
    expected: list[list[float | None]],
    number: int,
    rate: float,
    ends: float,
) -> None:
    """Ask for groups in three ways, over and over; `rate` times a second at most, 0: one after the other."""
    turn, due = number, time.monotonic()
    while time.monotonic() < ends:
        if rate:
            due += 1 / rate
            await asyncio.sleep(due - time.monotonic())
        index, turn = turn % len(GROUPS), turn + 1
        group = GROUPS[index]
        soak.asked += 1
        try:
            if turn % 3 == 0:
                members = [
                    {
                        "prompt": group["prompt"], "reference": group["reference"], **trajectory,
                        "group_id": f"{number}-{turn}", "group_size": 4, "member_id": f"{number}-{turn}-{at}",
                        "wait_s": 600, "preset": PRESET,
                    }
                    for at, trajectory in enumerate(group["trajectories"])
                ]  # fmt: skip
                answers = await asyncio.gather(*(client.member(member) for member in members))
                found, told = [answer.reward for answer in answers], str(answers)
            elif turn % 3 == 1:
                answer = await client.reward([group], preset=PRESET)
                found, told = answer.rewards[0], str(answer)
            else:
                texts = [trajectory["response"] for trajectory in group["trajectories"]]
                await client.rank([{"prompt": group["prompt"], "candidates": texts}])
                continue
            if not near(found, expected[index]):
                soak.wrong.append(
                    f"{('member', 'reward')[turn % 3]} {index}: {found}, not {expected[index]}: {told}"
                )
        except Exception as error:  # noqa: BLE001  whatever it is, an answer is missing
            soak.failed.append(f"{type(error).__name__}: {error}"[:200])


async def push(client: AsyncRewardClient, soak: Soak, ends: float) -> None:
    weights = Path(Settings().model_path) / "model.safetensors"
    while time.monotonic() + PUSH_S < ends:
        await asyncio.sleep(PUSH_S)
        soak.pushes += 1
        await client.push_weights(weights, f"step-{soak.pushes}")


async def sample(soak: Soak, pid: int, ends: float) -> None:
    while time.monotonic() < ends:
        await asyncio.sleep(SAMPLE_S)
        memory_mb, descriptors = await asyncio.to_thread(used, pid)
        soak.memory_mb.append(memory_mb)
        soak.descriptors.append(descriptors)


def used(pid: int) -> tuple[float, dict[str, int]]:
    """Resident megabytes of a process, and its open file descriptors by kind."""
    process = Path(f"/proc/{pid}")
    (resident,) = [line.split()[1] for line in (process / "status").read_text().splitlines() if "VmRSS" in line]
    return int(resident) / 1024, dict(Counter(kind for one in (process / "fd").iterdir() if (kind := _kind(one))))


def _kind(descriptor: Path) -> str:
    """What it is, without its number; empty when it is closed by now."""
    try:
        return re.sub(r":\[\d+\]$", "", str(descriptor.readlink()))
    except OSError:
        return ""


async def run(url: str, pid: int, minutes: float, rate: float) -> Soak:
    soak = Soak()
    async with AsyncRewardClient(url, timeout=120, concurrency=4 * CLIENTS) as client:
        expected = [(await client.reward([group], preset=PRESET)).rewards[0] for group in GROUPS]
        ends = time.monotonic() + 60 * minutes
        await asyncio.gather(
            push(client, soak, ends),
            sample(soak, pid, ends),
            *(ask(client, soak, expected, number, rate / CLIENTS, ends) for number in range(CLIENTS)),
        )
    return soak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="at least 2 (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as many as are answered")
    parser.add_argument("--keep-s", type=float, help="what the service keeps for a time, it keeps so long")
    parser.add_argument("--json", type=Path, help="write the figures and all samples here")
    options = parser.parse_args()
    minutes = max(2.0, options.minutes)
    keep_s = str(60 * minutes / 6 if options.keep_s is None else options.keep_s)
    command = [str(Path(sys.executable).with_name("opera-reward")), "serve", "--port", "0"]
    command += [part for name in ("answers", "members", "replays") for part in (f"--keep-{name}-s", keep_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            soak = asyncio.run(run(line.split(" at ")[1].strip(), server.pid, minutes, options.rate))
        finally:
            server.terminate()
    verdict = soak.verdict()
    print(json.dumps(verdict, indent=1))
    if options.json:
        samples = {"memory_mb": soak.memory_mb, "descriptors": soak.descriptors}
        options.json.write_text(json.dumps({**verdict, **samples}, indent=1) + "\n")
    return 0 if verdict["well"] else 1


if __name__ == "__main__":
    sys.exit(main())
