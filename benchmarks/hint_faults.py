"""Hints on, and something goes wrong: a flood of them from one run, a killed service, new weights in between.

    python benchmarks/hint_faults.py [--count 24] [--json FILE]

A service on the embedded model with `--route kept_trunks`. Every reward is compared, in every bit, with that of a
fresh service which was never sent a hint. *Wrong* rewards differ, *lost* ones never came. In the flood, honest
clients ask for rewards without hints while one client sends long hints as fast as they are taken, under many runs'
names. Target: nothing wrong or lost, and the others' p99 at most twice that without the flood.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from safetensors.torch import load_file, save_file

from opera_client import AsyncRewardClient
from opera_client.errors import OperaError
from opera_demo import model_path
from opera_service.trajectories.hf_tokenizer import HFTokenizer
from streaming import Trajectory, summary, trajectories

ADMIN_KEY = "the-admin-key"
HONEST, FLOODERS = 3, 32
EVERY = 16
"""Tokens of a hint."""


@contextlib.contextmanager
def serving(port: int, model: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Serve `model` on `port`, and yield the process when it answers."""
    command = [
        str(Path(sys.executable).with_name("opera-reward")),
        "serve",
        "--port",
        str(port),
        "--cache-mb",
        "0",
    ]
    command += ["--model", str(model), "--dtype", "float32", "--route", "kept_trunks", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if not re.search(r"http://\S+", line := process.stdout.readline()):
            raise SystemExit(f"the service did not start: {line!r}")
        yield process
        process.terminate()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def reward(client: AsyncRewardClient, one: Trajectory, **more: Any) -> float | None:
    """Return a trajectory's reward, None where it never came."""
    shared = {name: one["about"][name] for name in ("prompt", "reference")}
    try:
        trajectory = {"response_token_ids": one["ids"]}
        answer = await client.reward([{**shared, "trajectories": [trajectory]}], reward="igpo", **more)
    except OperaError:
        return None
    return answer.rewards[0][0]


async def rewards(url: str, wanted: list[Trajectory]) -> list[float | None]:
    async with AsyncRewardClient(url, retries=40, timeout=120) as client:
        return [await reward(client, one) for one in wanted]


async def honest(url: str, wanted: list[Trajectory]) -> tuple[list[float | None], list[float]]:
    """Ask for every reward, `HONEST` at a time, each client a run; return rewards in order, and seconds."""
    found: dict[int, float | None] = {}
    seconds: list[float] = []

    async def one_run(number: int, client: AsyncRewardClient) -> None:
        for at in range(number, len(wanted), HONEST):
            started = time.perf_counter()
            found[at] = await reward(client, wanted[at], run_id=f"honest-{number}")
            seconds.append(time.perf_counter() - started)
            await asyncio.sleep(0.1)

    async with AsyncRewardClient(url, timeout=120) as client:
        await asyncio.gather(*(one_run(number, client) for number in range(HONEST)))
    return [found[at] for at in range(len(wanted))], seconds


async def flood(url: str, wanted: list[Trajectory], said: dict[str, int]) -> None:
    """Send hints of new trajectories without end; `said` counts answers."""
    numbers = itertools.count()

    async def flooder(http: httpx.AsyncClient) -> None:
        rng = random.Random(next(numbers))
        while True:
            number, one = next(numbers), rng.choice(wanted)
            hint = {
                **one["about"], "prompt": f"{number}? {one['about']['prompt']}", "run_id": f"flood-{number}",
                "group_id": "g", "member_id": "m", "seq": 0, "append": {"token_ids": one["ids"]},
            }  # fmt: skip
            answer = await http.post(f"{url}/reward/hint", json=hint)
            said[str(answer.status_code)] = said.get(str(answer.status_code), 0) + 1

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=FLOODERS)) as http:
        await asyncio.gather(*(flooder(http) for _ in range(FLOODERS)))


async def flooded(url: str, wanted: list[Trajectory], hints: list[Trajectory]) -> Any:
    said: dict[str, int] = {}
    flooding = asyncio.create_task(flood(url, hints, said))
    await asyncio.sleep(1)
    found, seconds = await honest(url, wanted)
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    return found, seconds, said


async def hint(client: AsyncRewardClient, one: Trajectory, start: int, end: int, stream: Any = None) -> Any:
    """Tell a part of a trajectory, a few tokens at a time."""
    stream = stream or client.hints(group_id=one["name"], member_id="0", **one["about"])
    for at in range(start, end, EVERY):
        stream.add(one["ids"][at : min(at + EVERY, end)])
        await asyncio.sleep(0.02)
    return stream


async def interrupted(url: str, wanted: list[Trajectory], between: Any) -> None:
    """Tell the first halves, let it happen, tell the second halves."""
    async with AsyncRewardClient(url, retries=40, timeout=120) as client:
        halves = [len(one["ids"]) // 2 for one in wanted]
        pairs = list(zip(wanted, halves, strict=True))
        streams = await asyncio.gather(*(hint(client, one, 0, half) for one, half in pairs))
        await between(client)
        both = zip(pairs, streams, strict=True)
        await asyncio.gather(*(hint(client, one, half, len(one["ids"]), stream) for (one, half), stream in both))
        await asyncio.gather(*(stream.aclose() for stream in streams))


def compared(name: str, found: list[float | None], expected: list[float | None], **more: Any) -> dict[str, Any]:
    pairs = list(zip(found, expected, strict=True))
    row = {
        "wrong": sum(one is not None and one != right for one, right in pairs),
        "lost": found.count(None),
        **more,
    }
    print(f"{name:>12}: {row}", flush=True)
    return row


def killed(wanted: list[Trajectory], expected: list[float | None]) -> dict[str, Any]:
    """SIGKILL while hints are worked for; another process takes the port."""
    port, model = free_port(), model_path()
    url = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(serving(port, model))

        async def kill(_: AsyncRewardClient) -> None:
            first.send_signal(signal.SIGKILL)
            await asyncio.to_thread(first.wait)
            await asyncio.to_thread(stack.enter_context, serving(port, model))

        asyncio.run(interrupted(url, wanted, kill))
        return compared("SIGKILL", asyncio.run(rewards(url, wanted)), expected)


def pushed(wanted: list[Trajectory], old: list[float | None], folder: Path) -> dict[str, Any]:
    """New weights while hints are worked for: afterwards all rewards are theirs."""
    other = {name: 1.01 * tensor for name, tensor in load_file(model_path() / "model.safetensors").items()}
    for path in model_path().iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    save_file(other, folder / "model.safetensors", metadata={"format": "pt"})
    port = free_port()
    with serving(port, folder):
        expected = asyncio.run(rewards(f"http://127.0.0.1:{port}", wanted))
    key, port = folder / "admin-key", free_port()
    key.write_text(ADMIN_KEY)
    url = f"http://127.0.0.1:{port}"

    async def push(_: AsyncRewardClient) -> None:
        async with AsyncRewardClient(url, api_key=ADMIN_KEY) as admin:
            await admin.push_weights(folder / "model.safetensors", "1")

    with serving(port, model_path(), "--admin-key-file", str(key)):
        asyncio.run(interrupted(url, wanted, push))
        found = asyncio.run(rewards(url, wanted))
    moved = sum(one != before for one, before in zip(expected, old, strict=True))
    return compared("new weights", found, expected, differ_from_the_old=moved)


def main() -> None:
    """Print a row a fault; exit with 1 where a reward is wrong or lost, or the flood was felt too much."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=24, help="rewards that honest clients ask for")
    options.add_argument("--paragraphs", type=int, default=4, help="of each thought")
    options.add_argument("--json", type=Path)
    given = options.parse_args()

    wanted = trajectories(HFTokenizer.load(str(model_path())), given.count, given.paragraphs)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(port, model_path()):
        expected, seconds = asyncio.run(honest(url, wanted))
    quiet = summary(seconds)
    rows = {"quiet": compared("quiet", expected, expected, **quiet)}
    with serving(port, model_path()):
        found, seconds, said = asyncio.run(flooded(url, wanted, wanted))
    under = summary(seconds)
    times = under["p99_s"] / quiet["p99_s"]
    rows["flood"] = compared("flood", found, expected, **under, p99_of_quiet=times, hints=said)
    few, right = wanted[:8], expected[:8]
    rows["SIGKILL"] = killed(few, right)
    with tempfile.TemporaryDirectory() as folder:
        rows["new weights"] = pushed(few, right, Path(folder))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    if times > 2 or any(row["wrong"] or row["lost"] for row in rows.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
