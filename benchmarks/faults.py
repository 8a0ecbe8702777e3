"""Break the service in every way we know while clients ask for rewards, and count what they got.

    python benchmarks/faults.py [--seconds 4] [--only NAME …] [--json FILE]

Every reward is asked for by `AsyncRewardClient` with its standard retries. *Right* equals the answer of a quiet
service on the weights that the answer names; *wrong* differs; *lost* never came. *Refused* counts attempts that
got a typed, retryable error and were repeated; *broken* those that got no answer, because the process was gone;
*untyped* any other error. Wrong, lost and untyped must be 0. Exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
from safetensors.numpy import save

from faults_server import Counting, Server, Tally
from opera_client import AsyncRewardClient
from serving import PRESET, make_group

GROUPS = [make_group(seed, 4, 3, 8) for seed in range(48)]
CLIENTS = 8
SALTS = {"0": 0, **{f"step-{salt}": salt for salt in range(1, 13)}}
"""Weight version -> the dummy engine's weights."""
Answers = dict[tuple[str, int], list[float | None]]


async def ask_until(stop: asyncio.Event, server: Server, tally: Tally, expected: Answers, first: int) -> None:
    """One worker of a trainer: asks for one group after the other, each until it has its rewards."""
    at = first
    async with AsyncRewardClient(server.url, timeout=60, transport=Counting(tally)) as client:
        while not stop.is_set():
            index, at = at % len(GROUPS), at + CLIENTS
            tally.asked += 1
            try:
                result = await client.reward([GROUPS[index]], preset=PRESET)
            except Exception as error:  # noqa: BLE001  whatever it is, the reward did not come
                tally.lost += 1
                tally.notes.append(f"{type(error).__name__}: {error}"[:160])
                continue
            right = result.rewards[0] == expected[result.model.weight_version, index]
            tally.right += right
            tally.wrong += not right


async def quiet_answers(folder: Path) -> Answers:
    """Return the rewards of every group on every weight version, asked one at a time."""
    found: Answers = {}
    server = Server(folder)
    try:
        async with AsyncRewardClient(server.url) as client:
            for version, salt in SALTS.items():
                if salt:
                    await client.push_weights(weights(salt), version)
                for index, group in enumerate(GROUPS):
                    found[version, index] = (await client.reward([group], preset=PRESET)).rewards[0]
    finally:
        server.stop()
    if len({tuple(found[version, 0]) for version in SALTS}) < len(SALTS):
        raise SystemExit("two weight versions give the same rewards: a mixture would not be seen")
    return found


def weights(salt: int) -> bytes:
    return save({"salt": np.array(salt, dtype=np.int64)})


Fault = Callable[[Server, Tally, float], Awaitable[None]]


async def ordered(server: Server, what: str, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    server.order(what)
    await asyncio.sleep(seconds / 4)
    server.order("work")
    await asyncio.sleep(seconds / 2)


async def nothing(_server: Server, _tally: Tally, seconds: float) -> None:
    await asyncio.sleep(seconds)


async def killed(server: Server, _tally: Tally, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    await server.restart_after(signal.SIGKILL)
    await asyncio.sleep(seconds / 2)


async def terminated(server: Server, tally: Tally, seconds: float) -> None:
    await asyncio.sleep(seconds / 4)
    code = await server.restart_after(signal.SIGTERM)
    tally.notes.append(f"exit code {code}")
    await asyncio.sleep(seconds / 2)


async def leaving(server: Server, _tally: Tally, seconds: float) -> None:
    """Others send whole requests and hang up before the answer."""
    body = json.dumps({"groups": GROUPS[:4]}).encode()
    head = f"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head.encode() + body[: len(body) if time.monotonic() % 2 > 1 else len(body) // 2])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()


async def loris(server: Server, _tally: Tally, seconds: float) -> None:
    """A hundred connections that send a byte now and then and never finish."""
    writers = [(await asyncio.open_connection("127.0.0.1", server.port))[1] for _ in range(100)]
    for writer in writers:
        writer.write(b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for writer in writers:
            writer.write(b"{")
        await asyncio.sleep(0.2)
    for writer in writers:
        writer.close()


async def overload(server: Server, tally: Tally, seconds: float) -> None:
    """Fifty times the clients, all without patience or manners: they do not wait and do not repeat."""
    statuses: dict[int, int] = {}

    async def rude(number: int) -> None:
        ends = time.monotonic() + seconds
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            while time.monotonic() < ends:
                answer = await client.post(
                    "/reward", json={"groups": [GROUPS[number % len(GROUPS)]], "preset": PRESET, "run_id": "rude"}
                )
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                await asyncio.sleep(0.05)

    await asyncio.gather(*(rude(number) for number in range(50 * CLIENTS)))
    tally.notes.append(f"the crowd got {dict(sorted(statuses.items()))}")
    tally.untyped += sum(count for status, count in statuses.items() if status not in (200, 429, 503))


async def pushed(server: Server, tally: Tally, seconds: float) -> None:
    async with AsyncRewardClient(server.url) as client:
        ends, done = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            version = f"step-{1 + done % 12}"
            await client.push_weights(weights(SALTS[version]), version)
            done += 1
            await asyncio.sleep(0.1)
    tally.notes.append(f"{done} pushes")


async def corrupted(server: Server, tally: Tally, seconds: float) -> None:
    bad = [weights(3)[:-3], b"not weights", save({"pepper": np.array(1)}), save({"salt": np.array(13)})]
    ends, statuses = time.monotonic() + seconds, set()
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        while time.monotonic() < ends:
            for body in bad:
                answer = await client.put("/policy/weights", content=body, headers={"X-Weight-Version": "bad"})
                statuses.add(answer.status_code)
            await asyncio.sleep(0.05)
    tally.notes.append(f"pushes answered {sorted(statuses)}")
    tally.untyped += statuses != {422}


def order(what: str) -> Fault:
    return lambda server, _tally, seconds: ordered(server, what, seconds)


FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "none": (nothing, ()),
    "engine raises": (order("raise"), ()),
    "engine hangs": (order("hang"), ()),
    "out of memory": (order("oom"), ()),
    "engine returns NaN": (order("nan"), ()),
    "SIGKILL, restart": (killed, ()),
    "SIGTERM under load": (terminated, ()),
    "clients hang up": (leaving, ()),
    "slow-loris": (loris, ()),
    "50x overload": (overload, ("--max-queue-requests", "16")),
    "weights under load": (pushed, ()),
    "corrupted weights": (corrupted, ()),
    "audit disk full": (nothing, ("--audit", "AUDIT")),
}


@asynccontextmanager
async def running(folder: Path, name: str) -> AsyncIterator[Server]:
    flags = [str(folder / "audit.sqlite") if flag == "AUDIT" else flag for flag in FAULTS[name][1]]
    environment = {"FAULTS_FILE_BYTES": "40000"} if "--audit" in flags else {}
    server = Server(folder, *flags, **environment)
    try:
        yield server
    finally:
        server.stop()


async def suffer(name: str, expected: Answers, seconds: float) -> Tally:
    """Run one fault against eight asking clients."""
    tally, stop = Tally(name), asyncio.Event()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), name) as server:
            asking = [
                asyncio.create_task(ask_until(stop, server, tally, expected, number)) for number in range(CLIENTS)
            ]
            try:
                await FAULTS[name][0](server, tally, seconds)
            finally:
                stop.set()
            await asyncio.gather(*asking)
            if name == "audit disk full":
                metrics = (await asyncio.to_thread(httpx.get, f"{server.url}/metrics")).text
                tally.notes.append(
                    "; ".join(
                        re.findall(
                            r"^opera_audit_(?:ok|failures_total|waiting|written|lost).*$", metrics, re.MULTILINE
                        )
                    )
                )
    tally.seconds = time.monotonic() - started
    return tally


async def run(options: argparse.Namespace) -> list[Tally]:
    with tempfile.TemporaryDirectory() as folder:
        expected = await quiet_answers(Path(folder))
    tallies = []
    print("| fault | asked | right | wrong | lost | refused, then right | broken off, then right | untyped |")
    print("|" + "---|" * 8)
    for name in options.only or FAULTS:
        one = await suffer(name, expected, options.seconds)
        tallies.append(one)
        print(
            f"| {name} | {one.asked} | {one.right} | {one.wrong} | {one.lost} | {one.refused} | {one.broken} "
            f"| {one.untyped} |",
            flush=True,
        )
        for note in one.notes[:3]:
            print(f"  {name}: {note}", file=sys.stderr)
    return tallies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seconds", type=float, default=4.0, help="of asking while each fault goes on (default: %(default)s)")
    add("--only", nargs="+", choices=FAULTS, help="these faults alone")
    add("--json", type=Path, help="write every count here")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        tallies = asyncio.run(run(options))
        if options.json:
            options.json.write_text(
                json.dumps([asdict(one) for one in tallies], indent=1) + "\n", encoding="utf-8"
            )
        return 0 if all(one.good for one in tallies) else 1
    return 130


if __name__ == "__main__":
    sys.exit(main())
