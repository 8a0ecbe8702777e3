"""What the simulation of an autoscaler is fed with: a pod's speed, given or measured, and training runs."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx


@dataclass(frozen=True)
class Hardware:
    """What one pod is."""

    name: str
    tokens_per_s: float
    """Distinct tree tokens through the engine."""
    start_s: float
    """From the autoscaler's wish to a pod that is ready."""


@dataclass(frozen=True)
class Run:
    """One training run's rollout steps."""

    groups: int
    """A step."""
    tokens: float
    """Median distinct tokens of a group's tree."""
    spread: float
    """Sigma of their logarithm: few groups are very long."""
    generation_s: float
    """Median time at which a group of the step is complete."""
    generation_spread: float
    train_s: float
    """From the last reward to the next step."""
    batch: int = 1
    """Groups in one request: the trainer's choice, and nothing that an autoscaler knows."""
    begins_s: float = 0.0
    ends_s: float = math.inf
    """No step begins earlier, or later."""


def workloads_for(hardware: Hardware, hours: float) -> dict[str, list[Run]]:
    """Three sorts of training; work is stated in seconds of one pod, so that any hardware has the same problem.

    * mixed: two runs all the time; four more, two of them with groups ten times as large, in the middle half.
    * bursts: one big synchronous run whose rollouts arrive together after a quarter of an hour of training.
    * surge: one small run all the time; in the middle half one of twenty times its size beside it.
    """
    rate = hardware.tokens_per_s
    small = Run(groups=256, tokens=0.6 * rate, spread=0.6, generation_s=60, generation_spread=0.4, train_s=60)
    middle = {"begins_s": 900 * hours, "ends_s": 2700 * hours}
    large = replace(small, groups=64, tokens=6 * rate, generation_s=240, train_s=180, **middle)
    return {
        "mixed": [small] * 2 + [replace(small, **middle)] * 2 + [large] * 2,
        "bursts": [replace(small, groups=512, tokens=4 * rate, generation_s=180, train_s=900, batch=4)],
        "surge": [replace(small, groups=64), replace(small, groups=1280, generation_s=120, **middle)],
    }


def measure(flags: Sequence[str], groups: int = 48) -> Hardware:
    """Start `opera-reward serve` with `flags`, and load it until its engine has worked for a while.

    In CPU seconds of the whole process: a pod has its cores for itself, so waiting for neighbours must not count.
    (They slow down what runs, too: measure on a quiet machine.) Linux, and for engines on the CPU with one thread;
    elsewhere measure seconds and say --tokens-per-s and --start-s.
    """
    from prometheus_client.parser import text_string_to_metric_families

    from serving import make_group, send_all, server

    with server(*flags) as url:
        (process,) = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        start_s = cpu_seconds(process)
        bodies = [json.dumps({"groups": [make_group(seed, 4, 8, 12)]}).encode() for seed in range(groups)]
        asyncio.run(send_all(url, bodies, 16))
        work_s = cpu_seconds(process) - start_s
        families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
        values = {sample.name: sample.value for family in families for sample in family.samples}
    return Hardware("measured, CPU seconds", values["opera_batch_tokens_sum"] / work_s, start_s)


def cpu_seconds(process: str) -> float:
    """User and system time of a process so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
