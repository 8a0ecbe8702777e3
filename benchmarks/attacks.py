"""What one small hostile client can send. Run by `hostile.py`, each in a process of its own, on loopback only.

    python benchmarks/attacks.py NAME URL SECONDS

Prints how often each status came, and how many answers of the service's were not its own typed errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import count, cycle
from typing import Any
from urllib.parse import urlsplit

import httpx

SIDE_BY_SIDE = 4
GARBAGE = (
    b"\x00" * 4096,
    b"GET " + b"a" * 70_000,
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    b"\x16\x03\x01\x02\x00",
)
GROUP = {"prompt": "p", "reference": "r", "trajectories": [{"response": "<think>a</think>b"}]}
TOWER = r"<think>t</think>\boxed{9^{9^{9^{9}}}}"


def group(**changes: Any) -> dict[str, Any]:
    return GROUP | changes


def body(**fields: Any) -> bytes:
    return json.dumps({"groups": [GROUP], **fields}).encode()


def thought(paragraph: str, times: int) -> list[dict[str, str]]:
    return [{"response": "<think>" + paragraph * times + "</think>b"}]


def letters(text: str, times: int) -> bytes:
    return (text * times).encode()


BODIES: dict[str, Callable[[], bytes]] = {
    "zeros for groups, 2 MB": lambda: b'{"groups":[' + letters("0,", 1_000_000) + b"0]}",
    "zeros for groups, 30 MB": lambda: b'{"groups":[' + letters("0,", 15_000_000) + b"0]}",
    "negative ids": lambda: body(groups=[group(prompt_token_ids=[-1] * 1_000_000)]),
    "text for ids": lambda: body(groups=[group(prompt_token_ids=["x"] * 500_000)]),
    "unknown keys": lambda: body(**{f"k{number}": 0 for number in range(1_000_000)}),
    "unknown keys of a trajectory": lambda: body(
        groups=[group(trajectories=[{"response": "a", **{f"k{n}": 0 for n in range(300_000)}}])]
    ),
    "one key of 20 MB": lambda: body(**{"k" * 20_000_000: 0}),
    "empty lists in config": lambda: b'{"config":{"a":[' + letters("[],", 5_000_000) + b'[]]},"groups":[]}',
    "deep config": lambda: b'{"config":' + letters('{"a":', 1_000_000) + b"0" + letters("}", 1_000_000) + b"}",
    "many small groups": lambda: body(groups=[GROUP] * 100_000),
    "numbers of a million digits": lambda: b'{"groups":[' + letters("9", 1_000_000) + b"]}",
    "towers for the judge": lambda: body(
        groups=[group(task="math", reference="1", trajectories=[{"response": f"{TOWER}{n}"} for n in range(24)])],
        timeout_s=2,
    ),
    "nested fractions for the judge": lambda: body(
        groups=[
            group(
                task="math", reference="1",
                trajectories=[
                    {"response": r"<think>t</think>\boxed{" + r"\frac{1}{" * 300 + str(n) + "}" * 301}
                    for n in range(24)
                ],
            )
        ],
        timeout_s=2,
    ),
    "paragraphs in paper mode": lambda: body(
        preset="paper", groups=[group(trajectories=thought("a\n\n", 9000))], timeout_s=10
    ),
    "paragraphs without a bound": lambda: body(
        config={"segment": {"max_segments": None, "min_tokens": 0}},
        groups=[group(trajectories=thought("a\n\n", 9000))], timeout_s=10,
    ),
    "100,000 reflection words": lambda: body(
        config={"reflection_words": {"words": [f"w{n}" for n in range(100_000)], "where": "anywhere"}}
    ),
    "the longest word list": lambda: body(
        config={"reflection_words": {"words": ["w" * 97 + f"{n:03}" for n in range(256)], "where": "anywhere"}},
        groups=[group(trajectories=thought("w" * 97 + " ", 300))], timeout_s=10,
    ),
    "numbers one cannot calculate with": lambda: body(config={"total": {"relative": 1e308, "reflection": 1e308}}),
}  # fmt: skip
"""Each is sent over and over, `SIDE_BY_SIDE` at a time."""


async def send(url: str, content: bytes, seconds: float, said: Counter[str]) -> None:
    """Post one body over and over."""
    end = time.monotonic() + seconds

    async def one(client: httpx.AsyncClient) -> None:
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError, httpx.HTTPError):
                async with asyncio.timeout(left):
                    note(await client.post("/reward", content=content), said)

    async with httpx.AsyncClient(base_url=url, timeout=None) as client:
        await asyncio.gather(*(one(client) for _ in range(SIDE_BY_SIDE)))


def note(answer: httpx.Response, said: Counter[str]) -> None:
    said[str(answer.status_code)] += 1
    if answer.status_code >= 500:
        try:
            typed = bool(answer.json()["error"]["code"]) and answer.json()["error"]["code"] != "internal_error"
        except (ValueError, KeyError, TypeError):
            typed = False
        said["untyped"] += not typed
    said["long"] += len(answer.content) > 16_384 and answer.status_code >= 400


async def members(url: str, seconds: float, said: Counter[str]) -> None:
    """Open groups that never complete, all of one run, each caller waiting."""
    numbers = count()
    end = time.monotonic() + seconds

    async def one(client: httpx.AsyncClient) -> None:
        while (left := end - time.monotonic()) > 0:
            request = {
                "run_id": "wrong", "group_id": f"g{next(numbers)}", "group_size": 2, "member_id": "a",
                "prompt": "p", "reference": "r", "response": "<think>a</think>b",
                "wait_s": 3600, "on_timeout": "error",
            }  # fmt: skip
            with contextlib.suppress(TimeoutError, httpx.HTTPError):
                async with asyncio.timeout(min(left, 0.2)):  # hang up: the member keeps its place
                    note(await client.post("/reward/member", json=request), said)

    async with httpx.AsyncClient(base_url=url, timeout=None, limits=httpx.Limits(max_connections=None)) as client:
        await asyncio.gather(*(one(client) for _ in range(100)))


async def connections(url: str, seconds: float, said: Counter[str], *, speaking: bytes = b"") -> None:
    """Open connections as fast as they are taken, and say nothing, or begin to."""
    place = urlsplit(url)
    end = time.monotonic() + seconds
    held: list[socket.socket] = []
    while time.monotonic() < end:
        try:
            one = socket.create_connection((place.hostname, place.port), timeout=1)
            if speaking:
                one.sendall(speaking)
            held.append(one)
            said["opened"] += 1
        except OSError:
            said["refused"] += 1
            await asyncio.sleep(0.05)
        if len(held) >= 900:  # what this process may have open, more or less
            for old in held[:300]:
                old.close()
            del held[:300]
        await asyncio.sleep(0)
    for one in held:
        one.close()


async def garbage(url: str, seconds: float, said: Counter[str]) -> None:
    """Speak anything but HTTP."""
    place = urlsplit(url)
    words = cycle(GARBAGE)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        word = next(words)
        with (
            contextlib.suppress(OSError),
            socket.create_connection((place.hostname, place.port), timeout=1) as one,
        ):
            one.sendall(word)
            said[one.recv(12)[9:12].decode("latin-1") or "closed"] += 1
        await asyncio.sleep(0.001)


OTHERS: dict[str, Callable[[str, float, Counter[str]], Any]] = {
    "groups that never complete": members,
    "silent connections": connections,
    "slow heads": lambda url, seconds, said: connections(
        url, seconds, said, speaking=b"GET /livez HTTP/1.1\r\nX: "
    ),
    "slow bodies": lambda url, seconds, said: connections(
        url, seconds, said, speaking=b"POST /reward HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
    ),
    "no HTTP": garbage,
}
NAMES = (*BODIES, *OTHERS)


async def attack(name: str, url: str, seconds: float) -> Counter[str]:
    """Do one of `NAMES` for some seconds; return what was answered."""
    said: Counter[str] = Counter()
    if name in BODIES:
        await send(url, BODIES[name](), seconds, said)
    else:
        await OTHERS[name](url, seconds, said)
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(attack(sys.argv[1], sys.argv[2], float(sys.argv[3])))))
