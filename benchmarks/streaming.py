"""How long after its last token a trajectory has its reward, with hints and without.

    python benchmarks/streaming.py --model smollm2 --count 8 --json FILE
    python benchmarks/streaming.py --model demo --count 64 --at-once 16 --rate 60 --minutes 7.5

A service with `--route kept_trunks`. Trajectories are written at a fixed rate, with one hint every few tokens, and
then asked about with `POST /reward`. Three modes, a fresh service each: no hints (cold, one request at a time),
hints, and hints of which a share never arrives (the client sends it with the next). Every reward must be the cold
one in every bit. *Beyond |G|* is how much longer than the reference alone, after a kept trunk, the reward took;
that is measured behind every answer. Seconds are as noisy as the machine; tokens are not. Exits with 1 where a
target is missed: p99 beyond |G| at most 100 ms, p99 at most .15 of cold and .4 with losses, tokens at most 1.05.

With `--minutes` trajectories are written over and over, each time after another prompt, with hints, and the
memory of the service is watched instead. Target: at most 5 % more in the last third than in the middle one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hostile import memory_mb
from opera_client import AsyncRewardClient
from opera_client._hints import HintStream
from opera_client.errors import ServiceUnreachable
from opera_client.wire import HintRequest, HintResult, RewardResult
from opera_demo import model_path
from opera_demo.open_samples import draw
from opera_service.engines.base import KEPT_BLOCK
from opera_service.model_store.folders import model_folder
from opera_service.trajectories.hf_tokenizer import HFTokenizer
from serving import server_process

Trajectory = dict[str, Any]


def trajectories(
    tokenizer: HFTokenizer, count: int, paragraphs: int, *, reward: str = "igpo", thinks: bool = True, **how: Any
) -> list[Trajectory]:
    """Return questions with references; the thoughts are paragraphs of the samples' written responses.

    Where the policy does not think they are a part of the answer. `how` is what else the requests say.
    """
    chosen = draw(1000, seed=0)
    texts = [one.response or "" for sample in chosen for one in sample.group.trajectories]
    pieces = [piece.strip() for text in texts for piece in text.split("\n\n") if len(piece) > 80]
    rng, found = random.Random(7), []
    for at in range(count):
        group = chosen[at % len(chosen)].group
        thought = "\n\n".join(rng.sample(pieces, paragraphs))
        answer = texts[at % len(texts)].rpartition("</think>")[2].strip()
        text = f"<think>\n{thought}\n</think>\n\n{answer}" if thinks else f"{thought}\n\n{answer}"
        about = {"prompt": group.prompt, "reference": group.reference, "reward": reward, **how}
        found.append({"name": str(at), "about": about, "ids": tokenizer.encode_inside(text).tolist()})
    return found


async def write(
    client: AsyncRewardClient, one: Trajectory, rate: float, every: int, lost: float | None
) -> tuple[RewardResult, float]:
    """Write one trajectory in real time; return its answer and the seconds from its last token to it.

    `lost` is the share of the hints that do not arrive; None: nothing is sent before the end, which comes at once.
    """
    ids, about = one["ids"], one["about"]
    stream = client.hints(group_id=one["name"], member_id="0", **about)
    rng, send = random.Random(one["name"]), stream._send  # noqa: SLF001

    async def lossy(hint: HintRequest) -> HintResult:
        if rng.random() < (lost or 0.0):
            raise ServiceUnreachable("lost on the way")
        return await send(hint)

    stream = HintStream(lossy, {"group_id": one["name"], "member_id": "0", **about})
    begun = time.perf_counter()
    for at in range(0, len(ids) if lost is not None else 0, every):
        part = ids[at : at + every]
        await asyncio.sleep(max(0.0, begun + (at + len(part)) / rate - time.perf_counter()))
        stream.add(part)
    last = time.perf_counter()
    shared = {name: about[name] for name in ("prompt", "reference")}
    how = {name: value for name, value in about.items() if name not in shared}
    answer = await client.reward([{**shared, "trajectories": [{"response_token_ids": ids}]}], **how)
    seconds = time.perf_counter() - last
    await stream.aclose()
    return answer, seconds


async def reference_alone(client: AsyncRewardClient, ids: Sequence[int], length: int) -> tuple[float, int]:
    """Return how long `length` new tokens take after a trajectory's kept trunk, and how many tokens it cost."""
    trunk = list(ids[: len(ids) // KEPT_BLOCK * KEPT_BLOCK])
    first = await client.score([{"context_token_ids": trunk, "target_token_ids": trunk[:1]}])
    started = time.perf_counter()
    second = await client.score([{"context_token_ids": trunk, "target_token_ids": (trunk * 9)[7 : 7 + length]}])
    return time.perf_counter() - started, first.usage.tokens_computed + second.usage.tokens_computed


async def replay(url: str, wanted: list[Trajectory], given: argparse.Namespace, lost: float | None) -> list[Any]:
    """Write all trajectories, a few at a time.

    Return answers, seconds, seconds beyond the reference's, and the tokens that measuring those cost.
    """
    gate = asyncio.Semaphore(1 if lost is None else given.at_once)
    async with AsyncRewardClient(url) as client:

        async def guarded(one: Trajectory, rate: float) -> tuple[RewardResult, float, float, int]:
            async with gate:
                answer, seconds = await write(client, one, rate, given.every, lost)
                alone, cost = await reference_alone(client, one["ids"], answer.groups[0].reference_tokens)
                return answer, seconds, seconds - alone, cost

        return await asyncio.gather(*map(guarded, wanted, itertools.cycle(given.rate)))


async def watched(url: str, pid: int, wanted: list[Trajectory], given: argparse.Namespace) -> list[float]:
    """Write trajectories over and over; return the service's memory in MB, once a second."""
    numbers, written, memory = itertools.count(), 0, []

    async def writer(client: AsyncRewardClient, rate: float) -> None:
        nonlocal written
        while True:
            number = next(numbers)
            one = wanted[number % len(wanted)]
            prompt = f"{number}. {one['about']['prompt'][0].content}"
            new = {**one, "name": str(number), "about": {**one["about"], "prompt": prompt}}
            await write(client, new, rate, given.every, 0.0)
            written += len(new["ids"])

    async with AsyncRewardClient(url, timeout=600) as client:
        paces = itertools.islice(itertools.cycle(given.rate), given.at_once)
        writers = [asyncio.create_task(writer(client, rate)) for rate in paces]
        for _ in range(round(60 * given.minutes)):
            memory.append(memory_mb(pid))
            await asyncio.sleep(1)
            for one in writers:
                if one.done():
                    one.result()
        for one in writers:
            one.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        held = await counted(client, "opera_hinted_tokens")
    print(f"{next(numbers)} trajectories begun, {written} tokens in whole ones, hints hold {held:.0f}", flush=True)
    return memory


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99 in seconds."""
    ordered = sorted(seconds)
    return {"p50_s": statistics.median(ordered), "p99_s": ordered[math.ceil(0.99 * len(ordered)) - 1]}


def rewards(answers: list[RewardResult]) -> list[float | None]:
    """Return the reward of each."""
    return [answer.rewards[0][0] for answer in answers]


def rates(text: str) -> list[float]:
    """Return tokens a second: a number, or a file with one a line, taken in turn."""
    path = Path(text)
    return [float(line) for line in (path.read_text().split() if path.is_file() else [text])]


def compared(given: argparse.Namespace, wanted: list[Trajectory], flags: Sequence[str]) -> dict[str, Any]:
    """Print a row a mode. Raises SystemExit where a reward differs in a bit."""
    rows: dict[str, Any] = {}
    expected: list[float | None] = []
    for mode, lost in (("cold", None), ("hints", 0.0), (f"{given.lost:.0%} lost", given.lost)):
        with server_process(*flags) as (url, _):
            found = asyncio.run(replay(url, wanted, given, lost))
            computed = asyncio.run(tokens_computed(url))
        answers, seconds, beyond, measuring = map(list, zip(*found, strict=True))
        computed -= sum(measuring)
        expected = expected or rewards(answers)
        if rewards(answers) != expected:
            raise SystemExit(f"{mode}: rewards differ from the cold ones")
        ends = [answer.usage.tokens_computed for answer in answers]
        row = rows[mode] = {
            **summary(seconds), "beyond_reference_p99_s": summary(beyond)["p99_s"], "tokens": computed,
            "tokens_at_the_end": sum(ends),
        }  # fmt: skip
        cold = rows["cold"]
        row["of_cold"] = row["p99_s"] / cold["p99_s"]
        left, in_all = sum(ends) / cold["tokens_at_the_end"], computed / cold["tokens"]
        print(
            f"{mode:>9}: p50 {row['p50_s']:.3f} s, p99 {row['p99_s']:.3f} s ({row['of_cold']:.2f} of cold), "
            f"beyond |G| {row['beyond_reference_p99_s']:.3f} s; at the end {sum(ends)} tokens ({left:.3f}), "
            f"in all {in_all:.3f} of cold's",
            flush=True,
        )
    hints, lossy = rows["hints"], rows[f"{given.lost:.0%} lost"]
    rows["missed"] = [
        name
        for name, met in {
            "p99 at most 100 ms beyond |G|": hints["beyond_reference_p99_s"] <= 0.1,
            "p99 at most .15 of cold": hints["of_cold"] <= 0.15,
            "p99 at most .4 of cold with losses": lossy["of_cold"] <= 0.4,
            "tokens at most 1.05": max(hints["tokens"], lossy["tokens"]) <= 1.05 * rows["cold"]["tokens"],
        }.items()
        if not met
    ]
    return rows


async def tokens_computed(url: str) -> float:
    """Return the tokens that a service has computed so far."""
    async with AsyncRewardClient(url) as client:
        return await counted(client, "opera_tokens_computed_total")


async def counted(client: AsyncRewardClient, name: str) -> float:
    """Return a number of the service's metrics."""
    http = await client._crowd.open()  # noqa: SLF001
    lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def remembered(given: argparse.Namespace, wanted: list[Trajectory], flags: Sequence[str]) -> dict[str, Any]:
    """Replay for some minutes, and print what became of memory."""
    with server_process(*flags) as (url, pid):
        memory = asyncio.run(watched(url, pid, wanted, given))
    third = len(memory) // 3
    middle, last = max(memory[third : 2 * third]), max(memory[2 * third :])
    print(f"memory: {memory[0]:.0f} MB at first, at most {middle:.0f} in the middle third, {last:.0f} in the last")
    return {"memory_mb": memory, "missed": [] if last <= 1.05 * middle else ["memory is not flat"]}


def main() -> None:
    """Print rows, and what was missed; exit with 1 where anything was."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="smollm2", help="or demo, the embedded one")
    options.add_argument("--count", type=int, default=8, help="trajectories")
    options.add_argument("--paragraphs", type=int, default=4, help="of each thought")
    options.add_argument("--reward", default="opera")
    options.add_argument("--preset")
    options.add_argument("--think", choices=("none", "optional", "required"), help="by default as the preset says")
    options.add_argument("--detail", choices=("reward", "segments"), default="reward")
    options.add_argument("--rate", type=rates, default=[30.0], help="tokens a second, or a file with one a line")
    options.add_argument("--every", type=int, default=8, help="tokens of a hint")
    options.add_argument("--at-once", type=int, default=1, help="trajectories that are written at a time")
    options.add_argument("--lost", type=float, default=0.2, help="share of hints that do not arrive")
    options.add_argument("--minutes", type=float, help="watch memory for so long instead")
    options.add_argument("--json", type=Path)
    given = options.parse_args()

    folder = str(model_path()) if given.model == "demo" else model_folder(given.model)
    how = {"preset": given.preset, "config": {"think": {"mode": given.think}} if given.think else None}
    wanted = trajectories(
        HFTokenizer.load(folder), given.count, given.paragraphs, reward=given.reward, thinks=given.think != "none",
        detail=given.detail, **{name: value for name, value in how.items() if value},
    )  # fmt: skip
    lengths = [len(one["ids"]) for one in wanted]
    pace = ", ".join(f"{rate:g}" for rate in given.rate[:9])
    print(f"{given.count} trajectories of {min(lengths)} to {max(lengths)} tokens, {pace} tokens/s", flush=True)
    flags = ("--model", folder, "--route", "kept_trunks", "--dtype", "float32")
    rows = (remembered if given.minutes else compared)(given, wanted, flags)
    print("missed:", ", ".join(rows["missed"]) or "nothing")
    if given.json:
        settings = {name: value for name, value in vars(given).items() if name != "json"}
        given.json.write_text(json.dumps({"settings": settings, "lengths": lengths, "modes": rows}, indent=1))
    sys.exit(bool(rows["missed"]))


if __name__ == "__main__":
    main()
