"""What Ray Serve adds and what it gives: requests a second of one and of two replicas, and the cost of its path.

The dummy engine sleeps for every token, so that replicas share no core and the rates are those of the path alone.
`engine share` is the part of the time that the engines worked; what is missing is HTTP, routing and scheduling.
Needs the environment of `make test-ray`. `--help` lists the knobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import socket
import statistics
import time
from typing import Any

import httpx
import ray
from ray import serve

from opera_service.ray_serve.app import app_with

WORDS = ["the", "sum", "of", "both", "is", "larger", "so", "we", "carry", "one", "and", "add", "check", "17", "42"]

SMALL_BATCHES = {"max_batch_tokens": 4096}
"""About two requests: in large ones the last batch of a round is a good part of it, and one replica waits."""


def body(seed: int, trajectories: int, segments: int) -> bytes:
    """A request of one group."""
    rng = random.Random(seed)

    def text(count: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(count))

    def response() -> str:
        thought = "\n\n".join(f"Wait, {text(8)}." for _ in range(segments))
        return f"<think>\n{thought}\n\n</think>\n\n{text(6)}"

    group = {
        "group_id": str(seed), "prompt": text(20) + "?\n", "reference": text(10),
        "trajectories": [{"response": response()} for _ in range(trajectories)],
    }  # fmt: skip
    return json.dumps({"groups": [group], "detail": "reward"}).encode()


async def measure(url: str, bodies: list[bytes], clients: int, token_seconds: float) -> dict[str, float]:
    """Send every body, `clients` at a time; return seconds, and the seconds that the engines slept for them."""
    waiting, tokens = iter(bodies), 0
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def one_client(client: httpx.AsyncClient) -> None:
        nonlocal tokens
        for content in waiting:
            response = await client.post(f"{url}/reward", content=content)
            response.raise_for_status()
            tokens += int(response.headers["x-tokens-computed"])

    async with httpx.AsyncClient(limits=limits, timeout=600) as client:
        started = time.perf_counter()
        await asyncio.gather(*(one_client(client) for _ in range(clients)))
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "engine_s": tokens * token_seconds, "requests_per_s": len(bodies) / seconds}


def deploy(replicas: int, options: argparse.Namespace) -> None:
    """Have so many replicas, whatever there was before."""
    # Without the cache of scores, or the second round would be free.
    args = {
        "engine": "dummy",
        "allow_open": True,
        "dummy_token_seconds": options.token_seconds,
        "cache_mb": 0,
        **SMALL_BATCHES,
    }
    app = app_with(args, autoscaling_config=None, num_replicas=replicas, ray_actor_options={"num_cpus": 0})
    serve.run(app, name="opera", route_prefix="/")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--token-seconds", type=float, default=1e-4, help="What the engine takes for a token.")
    parser.add_argument("--requests", type=int, default=200, help="Requests a round and replica.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16, help="Requests in flight for each replica.")
    parser.add_argument("--trajectories", type=int, default=4)
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=150 * 2**20, log_to_driver=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    url, found = f"http://127.0.0.1:{port}", []
    for replicas in (1, 2):
        deploy(replicas, options)
        bodies = [body(n, options.trajectories, options.segments) for n in range(options.requests * replicas)]
        clients = options.clients * replicas
        asyncio.run(measure(url, bodies[: 2 * clients], clients, options.token_seconds))
        rounds = [asyncio.run(measure(url, bodies, clients, options.token_seconds)) for _ in range(options.rounds)]
        rate = statistics.median(one["requests_per_s"] for one in rounds)
        share = statistics.median(one["engine_s"] / one["seconds"] / replicas for one in rounds)
        found.append({"replicas": replicas, "requests_per_s": rate, "engine_share": share, "rounds": rounds})
    serve.shutdown()
    ray.shutdown()
    report: dict[str, Any] = {
        "machine": {
            "processor": platform.processor() or platform.machine(), "cpus": os.cpu_count(),
            "python": platform.python_version(), "ray": ray.__version__, "load": os.getloadavg()[0],
        },
        "found": found,
        "two_over_one": found[1]["requests_per_s"] / found[0]["requests_per_s"],
        "overhead": 1 / found[0]["engine_share"] - 1,
    }  # fmt: skip
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(f"Ray {ray.__version__}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print("replicas   requests/s   engine share   rounds")
    for one in found:
        rates = " ".join(f"{each['requests_per_s']:.1f}" for each in one["rounds"])
        print(f"{one['replicas']:8d} {one['requests_per_s']:12.1f} {one['engine_share']:14.3f}   {rates}")
    print(f"two over one {report['two_over_one']:.3f}; overhead over the engine {report['overhead']:.1%}")


if __name__ == "__main__":
    main()
