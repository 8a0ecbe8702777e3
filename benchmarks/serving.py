"""What HTTP and scheduling cost on top of the bare engine, and how many requests a second they allow.

Overhead: the same groups through the engine directly, in the batches the scheduler's policy makes, and through
`opera-reward serve` on loopback with enough clients to keep it saturated; taken in turns, compared pair by pair.
Requests a second: small requests to the dummy engine, whose scores cost nothing. `--help` lists the knobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from opera_client.wire import Group
from opera_service.engines.torch.engine import TorchEngine
from opera_service.rewards.registry import resolve
from opera_service.scoring.fair_queue import FairQueue, Work
from opera_service.scoring.tree import TokenTree, TreeBuilder
from opera_service.server.settings import Settings
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.hf_tokenizer import HFTokenizer
from scoring_work import SHAPES, make_model

WORDS = ["the", "sum", "of", "both", "is", "larger", "so", "we", "carry", "one", "and", "add", "check", "17", "42"]


PRESET = "hardened-1"
"""Of benchmarks that tell wrong answers from right ones. Today's default finds no more than noise in random
words on the dummy engine, and pays all groups the same."""


def make_group(seed: int, trajectories: int, segments: int, words: int) -> dict[str, Any]:
    """A group of `trajectories`, each with `segments` paragraphs of `words` random words."""
    rng = random.Random(seed)

    def text(count: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(count))

    def response() -> str:
        thought = "\n\n".join(f"Wait, {text(words)}." for _ in range(segments))
        return f"<think>\n{thought}\n\n</think>\n\n{text(8)}"

    return {
        "group_id": str(seed),
        "prompt": text(20) + "?\n",
        "reference": text(12),
        "trajectories": [{"response": response()} for _ in range(trajectories)],
    }


@contextmanager
def server_process(*flags: str) -> Iterator[tuple[str, int]]:
    """Run `opera-reward serve` on a free port, without the cache of scores; yield its URL and its process id."""
    program = str(Path(sys.executable).with_name("opera-reward"))
    command = [program, "serve", "--port", "0", "--cache-mb", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if not found:
            raise SystemExit(f"the server did not start: {line!r}")
        try:
            yield found[0], process.pid
        finally:
            process.terminate()


@contextmanager
def server(*flags: str) -> Iterator[str]:
    """Like `server_process`, for those who need the URL alone."""
    with server_process(*flags) as (url, _):
        yield url


async def send_all(url: str, bodies: Sequence[bytes], clients: int) -> tuple[float, list[float]]:
    """Send every body, `clients` at a time; return the seconds for all and the seconds of each."""
    waiting, latencies = iter(bodies), []
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def one_client(client: httpx.AsyncClient) -> None:
        for body in waiting:
            started = time.perf_counter()
            response = await client.post(f"{url}/reward", content=body)
            response.raise_for_status()
            latencies.append(time.perf_counter() - started)

    async with httpx.AsyncClient(limits=limits, timeout=600) as client:
        started = time.perf_counter()
        await asyncio.gather(*(one_client(client) for _ in range(clients)))
        return time.perf_counter() - started, latencies


@contextmanager
def model_folder(options: argparse.Namespace) -> Iterator[str | None]:
    """Yield what `--model` names, or a folder with a random model of `--shape` and the embedded tokenizer."""
    if options.shape is None:
        yield options.model
        return
    with tempfile.TemporaryDirectory() as folder:
        make_model(options.shape, "cpu").model.save_pretrained(folder)
        for file in Path(Settings(engine="torch").model_path).glob("tokenizer*.json"):
            shutil.copy(file, folder)
        yield folder


def engine_seconds(url: str) -> float:
    """Seconds the server's engine has worked so far."""
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            if sample.name == "opera_engine_seconds_sum":
                return sample.value
    raise SystemExit("the server shows no opera_engine_seconds")


def plant(groups: Sequence[dict[str, Any]], model: str, engine: TorchEngine) -> list[TokenTree]:
    """Encode and plan as the service does."""
    reader = FieldTokenizer(HFTokenizer.load(model), engine.info.vocab_size, engine.info.max_context)
    reward = resolve("opera", "hardened", {})
    trees = []
    for index, group in enumerate(groups):
        encoding = encode_group(Group.model_validate(group), index, reader, reward.config)
        if encoding.group is None or encoding.errors:
            raise SystemExit(f"group {index} does not fit the model: {next(iter(encoding.errors.values()))}")
        builder = TreeBuilder()
        reward.plan(encoding.group, builder)
        trees.append(builder.build())
    return trees


@dataclass(eq=False, kw_only=True)
class Planted(Work):
    """A tree in the queue."""

    tree: TokenTree


def batches(trees: Sequence[TokenTree], budget: int) -> list[list[TokenTree]]:
    """Pack trees as the scheduler's policy packs a full queue."""
    queue: FairQueue[Planted] = FairQueue(budget, time.monotonic)
    for tree in trees:
        queue.push(Planted(tokens=tree.num_tokens, tree=tree))
    found = []
    while batch := queue.take().batch:
        found.append([work.tree for work in batch])
    return found


async def measure_overhead(options: argparse.Namespace, model: str | None) -> dict[str, Any]:
    """Compare bare and served seconds of the same work, in turns; each ratio is of neighbours in time."""
    settings = Settings(engine="torch", model=model)
    engine = TorchEngine.load(settings.model_path, device=options.device)
    groups = [make_group(seed, options.trajectories, options.segments, 12) for seed in range(options.groups)]
    trees = plant(groups, settings.model_path, engine)
    packed = batches(trees, engine.info.max_batch_tokens)
    bodies = [json.dumps({"groups": [group], "detail": options.detail}).encode() for group in groups]
    flags = ["--device", options.device, *(["--model", model] if model else [])]
    rounds = []
    with server(*flags) as url:
        await send_all(url, bodies[:4], 2)
        for batch in packed[:2]:
            await engine.score(batch)
        for _ in range(options.rounds):
            started = time.perf_counter()
            for batch in packed:
                await engine.score(batch)
            bare = time.perf_counter() - started
            busy = engine_seconds(url)
            served, _ = await send_all(url, bodies, options.clients)
            rounds.append({"bare_s": bare, "served_s": served, "engine_s": engine_seconds(url) - busy})
    await engine.aclose()
    return {
        "model": options.shape or engine.info.model,
        "route": engine.info.route,
        "dtype": engine.info.dtype,
        "groups": len(groups),
        "tokens": sum(tree.num_tokens for tree in trees),
        "engine_calls": len(packed),
        "clients": options.clients,
        "rounds": rounds,
        "served_over_bare": statistics.median(one["served_s"] / one["bare_s"] for one in rounds),
        "served_over_engine": statistics.median(one["served_s"] / one["engine_s"] for one in rounds),
        "tokens_per_s": statistics.median(
            sum(tree.num_tokens for tree in trees) / one["served_s"] for one in rounds
        ),
    }


async def measure_requests(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return requests a second and latencies of small requests to the dummy engine."""
    found = []
    with server("--engine", "dummy") as url:
        for trajectories, segments in ((1, 1), (2, 2), (8, 8)):
            bodies = [
                json.dumps({"groups": [make_group(seed, trajectories, segments, 6)]}).encode()
                for seed in range(options.requests)
            ]
            await send_all(url, bodies[:20], 4)
            seconds, latencies = await send_all(url, bodies, options.clients)
            cuts = statistics.quantiles(latencies, n=100)
            found.append(
                {
                    "trajectories": trajectories,
                    "segments": segments,
                    "requests_per_s": len(bodies) / seconds,
                    "trajectories_per_s": trajectories * len(bodies) / seconds,
                    "p50_ms": 1e3 * cuts[49],
                    "p95_ms": 1e3 * cuts[94],
                }
            )
    return found


def show(report: dict[str, Any]) -> None:
    """Print the report as two tables."""
    machine, found = report["machine"], report["overhead"]
    print(
        f"{machine['processor']}, {machine['cpus']} CPUs, Python {machine['python']}, load {machine['load']:.1f}\n"
    )
    print(
        f"overhead: {found['model']} ({found['route']}, {found['dtype']}), {found['groups']} groups, "
        f"{found['tokens']} distinct tokens, {found['engine_calls']} engine calls, {found['clients']} clients"
    )
    print("  bare s   served s   server's engine s   served / bare   served / engine")
    for one in found["rounds"]:
        print(
            f"{one['bare_s']:8.2f} {one['served_s']:10.2f} {one['engine_s']:19.2f} "
            f"{one['served_s'] / one['bare_s']:15.3f} {one['served_s'] / one['engine_s']:17.3f}"
        )
    print(
        f"median: served / bare {found['served_over_bare']:.3f}, "
        f"served / engine {found['served_over_engine']:.3f}\n"
    )
    print("dummy engine: trajectories x segments   requests/s   trajectories/s   p50 ms   p95 ms")
    for one in report["requests"]:
        print(f"{one['trajectories']:25d} x {one['segments']:<8d} {one['requests_per_s']:13.0f} "
              f"{one['trajectories_per_s']:16.0f} {one['p50_ms']:8.1f} {one['p95_ms']:8.1f}")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="Folder or id; the embedded model by default.")
    parser.add_argument("--shape", choices=SHAPES, help="A random model of this shape instead.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--groups", type=int, default=48)
    parser.add_argument("--trajectories", type=int, default=4, help="Per group.")
    parser.add_argument("--segments", type=int, default=8, help="Per trajectory.")
    parser.add_argument("--detail", default="segments", choices=("reward", "segments", "tokens"))
    parser.add_argument("--clients", type=int, default=16, help="Requests in flight.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400, help="Requests per row of the second table.")
    parser.add_argument("--json", action="store_true", help="Print the report as JSON.")
    options = parser.parse_args()
    with model_folder(options) as model:
        overhead = asyncio.run(measure_overhead(options, model))
    report = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        },
        "overhead": overhead,
        "requests": asyncio.run(measure_requests(options)),
    }
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)


if __name__ == "__main__":
    main()
