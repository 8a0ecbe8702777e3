"""How long after its last token a trajectory has its reward, with hints and without.

    python benchmarks/streaming.py --model smollm2 --count 16 --json FILE

A service with `--route kept_trunks`. Trajectories are written at a fixed rate, with one hint every few tokens, and
then asked about with `POST /reward`. Three modes, a fresh service each: no hints (cold), hints, and hints of which
a share never arrives (the client sends it with the next). Every reward must be the cold one in every bit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import time
from pathlib import Path
from typing import Any

from opera_client import AsyncRewardClient
from opera_client._hints import HintStream
from opera_client.errors import ServiceUnreachable
from opera_client.wire import HintRequest, HintResult, RewardResult
from opera_demo.open_samples import draw
from opera_service.model_store.folders import model_folder
from opera_service.trajectories.hf_tokenizer import HFTokenizer
from serving import server

Trajectory = dict[str, Any]


def trajectories(tokenizer: HFTokenizer, count: int, paragraphs: int) -> list[Trajectory]:
    """Return questions with references; the thoughts are paragraphs of the samples' written responses."""
    chosen = draw(1000, seed=0)
    texts = [one.response or "" for sample in chosen for one in sample.group.trajectories]
    pieces = [piece.strip() for text in texts for piece in text.split("\n\n") if len(piece) > 80]
    rng, found = random.Random(7), []
    for at in range(count):
        group = chosen[at % len(chosen)].group
        thought = "\n\n".join(rng.sample(pieces, paragraphs))
        text = f"<think>\n{thought}\n</think>\n\n{texts[at % len(texts)].rpartition('</think>')[2].strip()}"
        about = {"prompt": group.prompt, "reference": group.reference, "reward": "igpo"}
        found.append({"name": str(at), "about": about, "ids": tokenizer.encode_inside(text).tolist()})
    return found


async def write(
    client: AsyncRewardClient, one: Trajectory, options: argparse.Namespace, lost: float | None
) -> Any:
    """Write one trajectory in real time; return its answer and the seconds from its last token to it."""
    ids, about = one["ids"], one["about"]
    stream = client.hints(group_id=one["name"], member_id="0", **about)
    rng, send = random.Random(one["name"]), stream._send  # noqa: SLF001

    async def lossy(hint: HintRequest) -> HintResult:
        if rng.random() < (lost or 0.0):
            raise ServiceUnreachable("lost on the way")
        return await send(hint)

    stream = HintStream(lossy, {"group_id": one["name"], "member_id": "0", **about})
    begun = time.perf_counter()
    for at in range(0, len(ids), options.every):
        part = ids[at : at + options.every]
        await asyncio.sleep(max(0.0, begun + (at + len(part)) / options.rate - time.perf_counter()))
        if lost is not None:
            stream.add(part)
    last = time.perf_counter()
    shared = {name: about[name] for name in ("prompt", "reference")}
    answer = await client.reward([{**shared, "trajectories": [{"response_token_ids": ids}]}], reward="igpo")
    seconds = time.perf_counter() - last
    await stream.aclose()
    return answer, seconds


async def replay(url: str, wanted: list[Trajectory], options: argparse.Namespace, lost: float | None) -> Any:
    """Write all trajectories, a few at a time; return answers and seconds in order, and the service's counters."""
    gate = asyncio.Semaphore(options.at_once)
    async with AsyncRewardClient(url) as client:

        async def guarded(one: Trajectory) -> Any:
            async with gate:
                return await write(client, one, options, lost)

        found = await asyncio.gather(*map(guarded, wanted))
        http = await client._crowd.open()  # noqa: SLF001
        metrics = (await http.get("/metrics")).text
    names = ("opera_hints_worked_total", "opera_hints_failed_total", "opera_tokens_computed_total")
    counted = {name: _metric(metrics, name) for name in names}
    return [answer for answer, _ in found], [seconds for _, seconds in found], counted


def _metric(text: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def summary(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p99 in seconds."""
    ordered = sorted(seconds)
    return {"p50_s": statistics.median(ordered), "p99_s": ordered[math.ceil(0.99 * len(ordered)) - 1]}


def rewards(answers: list[RewardResult]) -> list[float | None]:
    """Return the reward of each."""
    return [answer.rewards[0][0] for answer in answers]


def main() -> None:
    """Print a row a mode, and fail where a reward differs in a bit."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="smollm2")
    options.add_argument("--count", type=int, default=16, help="trajectories")
    options.add_argument("--paragraphs", type=int, default=8, help="of each thought")
    options.add_argument("--rate", type=float, default=30.0, help="tokens a second, of each trajectory")
    options.add_argument("--every", type=int, default=8, help="tokens of a hint")
    options.add_argument("--at-once", type=int, default=1, help="trajectories that are written at a time")
    options.add_argument("--lost", type=float, default=0.2, help="share of hints that do not arrive")
    options.add_argument("--json", type=Path)
    given = options.parse_args()

    wanted = trajectories(HFTokenizer.load(model_folder(given.model)), given.count, given.paragraphs)
    lengths = [len(one["ids"]) for one in wanted]
    print(f"{given.count} trajectories of {min(lengths)} to {max(lengths)} tokens, {given.rate:g} tokens/s")
    rows: dict[str, Any] = {}
    expected: list[float | None] = []
    for mode, lost in (("cold", None), ("hints", 0.0), (f"{given.lost:.0%} lost", given.lost)):
        with server("--model", given.model, "--route", "kept_trunks", "--dtype", "float32") as url:
            answers, seconds, counted = asyncio.run(replay(url, wanted, given, lost))
        expected = expected or rewards(answers)
        if rewards(answers) != expected:
            raise SystemExit(f"{mode}: rewards differ from the cold ones")
        rows[mode] = {**summary(seconds), "tokens_computed": counted["opera_tokens_computed_total"], **counted}
        share = rows[mode]["p99_s"] / rows["cold"]["p99_s"]
        print(
            f"{mode:>10}: p50 {rows[mode]['p50_s']:.3f} s, p99 {rows[mode]['p99_s']:.3f} s ({share:.2f} of cold), "
            f"{counted['opera_tokens_computed_total']:.0f} tokens computed, rewards equal in every bit"
        )
    if given.json:
        settings = {name: value for name, value in vars(given).items() if name != "json"}
        given.json.write_text(json.dumps({"settings": settings, "lengths": lengths, "modes": rows}, indent=1))


if __name__ == "__main__":
    main()
