"""What the live page costs: a service with it and one without, asked in turn; and whether its memory stays flat.

    python benchmarks/ui_cost.py [--engine dummy] [--requests 100] [--pairs 300] [--watched] [--soak-minutes 5]

First, in a service inside this process, which part of all CPU time (the client's included) is the page's: on the
event loop, which a request waits for, and in the thread that writes. Then every pair sends one group to two
services, in an order drawn by chance, so that what else the machine does meets both alike: how much later the
answer comes (median over pairs, 95 % bootstrap interval), and how much more CPU time the whole process takes.
`--watched`: a page is open meanwhile.
The soak fills a small memory many times over and prints what the process takes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from opera_client import RewardClient
from serving import make_group

TICK = os.sysconf("SC_CLK_TCK")
GROUPS = 64
"""Different groups; the models' caches are off."""


@dataclass
class Served:
    """A running service."""

    client: httpx.Client
    pid: int

    @property
    def cpu_s(self) -> float:
        """User and system time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    @property
    def memory_mb(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8"))
        assert found is not None
        return int(found[1]) / 1024

    def reward(self, group: dict[str, Any], step: int, detail: str) -> float:
        """Have one group rewarded; return the seconds it took."""
        body = {"run_id": "cost", "step": step, "detail": detail, "groups": [group]}
        start = time.perf_counter()
        answer = self.client.post("/reward", json=body)
        took = time.perf_counter() - start
        answer.raise_for_status()
        return took


@contextmanager
def serving(*flags: str) -> Iterator[Served]:
    command = [
        str(Path(sys.executable).with_name("opera-reward")),
        "serve",
        "--port",
        "0",
        "--cache-mb",
        "0",
        *flags,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = re.search(r"http://\S+", process.stdout.readline() if process.stdout else "")
            assert found is not None, "the service did not start"
            yield Served(httpx.Client(base_url=found[0], timeout=120), process.pid)
        finally:
            process.terminate()


@contextmanager
def watching(served: Served) -> Iterator[None]:
    """Do what an open page of the run does: listen, and ask for the runs and the curves at every piece of news."""
    over = threading.Event()

    def listen() -> None:
        with (
            httpx.Client(base_url=served.client.base_url, timeout=120) as client,
            client.stream("GET", "/ui/events") as events,
        ):
            for line in events.iter_lines():
                if over.is_set():
                    return
                if line.startswith("data:"):
                    client.get("/ui/api/overview").raise_for_status()
                    client.get("/ui/api/series", params={"run": "cost"}).raise_for_status()
                    time.sleep(0.4)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield
    over.set()


def interval(values: Sequence[float], rng: random.Random) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    found = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(1000))
    return found[25], found[974]


def compare(
    with_page: Served, without: Served, pairs: int, groups: list[dict[str, Any]], detail: str
) -> dict[str, Any]:
    rng = random.Random(0)
    differences, plain, cpu = [], [], {with_page.pid: 0.0, without.pid: 0.0}
    for at in range(pairs + 10):
        if at == 10:  # warm
            cpu = {one.pid: -one.cpu_s for one in (with_page, without)}
            differences.clear()
            plain.clear()
        took = {}
        for one in rng.sample([with_page, without], 2):
            took[one.pid] = one.reward(groups[at % len(groups)], at // 8, detail)
        differences.append(took[with_page.pid] - took[without.pid])
        plain.append(took[without.pid])
    time.sleep(0.5)  # what waits is written, too
    cpu = {one.pid: (cpu[one.pid] + one.cpu_s) / pairs for one in (with_page, without)}
    base, (low, high) = statistics.median(plain), interval(differences, rng)
    more_cpu = cpu[with_page.pid] - cpu[without.pid]
    return {
        "pairs": pairs,
        "request_ms": 1000 * base,
        "later_ms": 1000 * statistics.median(differences),
        "later_percent": 100 * statistics.median(differences) / base,
        "later_percent_interval": [100 * low / base, 100 * high / base],
        "cpu_ms": 1000 * cpu[without.pid],
        "more_cpu_ms": 1000 * more_cpu,
        "more_cpu_percent": 100 * more_cpu / cpu[without.pid],
    }


class Clocked:
    """Calls a function and adds up the CPU time of its thread meanwhile."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        try:
            return self.function(*args, **kwargs)
        finally:
            self.seconds += time.thread_time() - start


def share(engine: str, requests: int, groups: list[dict[str, Any]], detail: str) -> dict[str, Any]:
    """Run a service in this process and return which part of all CPU time is the page's; load does not blur it."""
    from opera_service.pipelines import reward_audit
    from opera_service.ui.live_page import LivePage
    from opera_service.ui.source import Memory

    made = reward_audit.entries_of
    on_path = Clocked(lambda *args, **kwargs: [(one, one.bytes) for one in made(*args, **kwargs)])
    reward_audit.entries_of = lambda *args, **kwargs: (one for one, _ in on_path(*args, **kwargs))
    writing, told = Clocked(Memory.write), Clocked(LivePage.written)
    Memory.write = lambda *args: writing(*args)  # type: ignore[method-assign]
    LivePage.written = lambda *args: told(*args)  # type: ignore[method-assign]
    with RewardClient.in_process(engine=engine, ui=True, audit_texts=True, cache_mb=0) as client:
        client.reward(groups[:4], detail=detail, run_id="warm")
        time.sleep(1)
        on_path.seconds = writing.seconds = told.seconds = 0.0
        start = time.process_time()
        for at in range(requests):
            client.reward([groups[at % len(groups)]], detail=detail, run_id="cost", step=at // 8)
        time.sleep(0.5)
        total = time.process_time() - start
    thread = writing.seconds + told.seconds
    return {
        "requests": requests,
        "cpu_ms": 1000 * total / requests,
        "on_the_event_loop_ms": 1000 * on_path.seconds / requests,
        "in_the_writing_thread_ms": 1000 * thread / requests,
        "on_the_event_loop_percent": 100 * on_path.seconds / total,
        "page_percent": 100 * (on_path.seconds + thread) / total,
    }


def soak(minutes: float, limit_mb: int, groups: list[dict[str, Any]]) -> dict[str, Any]:
    flags = ("--ui", "--audit-texts", "--ui-memory-mb", str(limit_mb), "--engine", "dummy")
    memory, kept, asked = [], [], 0
    with serving(*flags) as served, watching(served):
        end, sample = time.monotonic() + 60 * minutes, 0.0
        while time.monotonic() < end:
            served.reward(groups[asked % len(groups)], asked // 8, "segments")
            asked += 1
            if time.monotonic() > sample:
                sample = time.monotonic() + 5
                storage = served.client.get("/ui/api/overview").json()["storage"]
                memory.append(served.memory_mb)
                kept.append(storage["bytes"] / 2**20)
        storage = served.client.get("/ui/api/overview").json()["storage"]
    third = len(memory) // 3
    return {
        "groups": asked,
        "limit_mb": limit_mb,
        "dropped_groups": storage["dropped_groups"],
        "lost_trajectories": storage["lost_trajectories"],
        "most_kept_mb": max(kept),
        "memory_mb_thirds": [statistics.median(memory[at * third : (at + 1) * third]) for at in range(3)],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--engine", default="torch", choices=["torch", "dummy"], help="torch: the embedded model")
    options.add_argument("--requests", type=int, default=100, help="whose CPU time is split")
    options.add_argument("--pairs", type=int, default=300)
    options.add_argument("--members", type=int, default=8)
    options.add_argument("--thoughts", type=int, default=8)
    options.add_argument("--detail", default="segments", choices=["reward", "segments"])
    options.add_argument("--watched", action="store_true")
    options.add_argument("--soak-minutes", type=float, default=0.0)
    options.add_argument("--soak-mb", type=int, default=16)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    groups = [make_group(seed, given.members, given.thoughts, 8) for seed in range(GROUPS)]
    found: dict[str, Any] = {}
    if given.requests:
        found["share"] = share(given.engine, given.requests, groups, given.detail)
    if given.pairs:
        with ExitStack() as stack:
            kinds = (("--ui", "--audit-texts"), ())
            both = [stack.enter_context(serving("--engine", given.engine, *more)) for more in kinds]
            if given.watched:
                stack.enter_context(watching(both[0]))
            found["cost"] = compare(*both, given.pairs, groups, given.detail)
    if given.soak_minutes:
        found["soak"] = soak(given.soak_minutes, given.soak_mb, groups)
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps({"arguments": sys.argv[1:], **found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
