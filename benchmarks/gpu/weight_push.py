"""Part (d): new weights of an 8B shape are pushed under load; what do clients see of it?

A checkpoint lies in memory (/dev/shm) and is loaded by `POST /policy/load`, while clients ask for rewards without
a pause. The service reads and checks it beside the served weights, then swaps between two batches.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from safetensors.torch import save_file

from gpu.part import Part
from gpu.served import Answer, Clients, serving
from opera_service.engines.torch.engine import TorchEngine
from opera_service.engines.torch.scorer import TreeScorer
from scoring_served import group
from scoring_work import make_model

CLIENTS, GROUP = 4, (1, 4, 256, 16)
SHARD_BYTES = 4e9
MEMORY = Path("/dev/shm")
ANSWERS = 60
"""Answers that are watched before and after."""


def main() -> int:
    part = Part("weight_push")
    asyncio.run(measure(part))
    part.finish()
    return 0


async def measure(part: Part) -> None:
    shape = "tiny" if part.dry else "8b"
    loaded = make_model(shape, part.device.type)
    scorer = TreeScorer(loaded)
    size = sum(tensor.nbytes for tensor in loaded.model.state_dict().values())
    roomy = shutil.disk_usage(MEMORY).free > 2 * size
    with tempfile.TemporaryDirectory(dir=MEMORY if roomy else part.out) as folder:
        checkpoint = Path(folder)
        began = time.perf_counter()
        written = write(loaded.model, checkpoint)
        part.add("written", gb=written / 1e9, in_memory=roomy, seconds=time.perf_counter() - began)
        async with serving(TorchEngine(scorer), weights=checkpoint) as url:
            await push(part, url, checkpoint, written)


def write(model: Any, folder: Path) -> int:
    """Write a checkpoint in shards; its last norm differs, so that rewards tell which weights made them."""
    shards: list[dict[str, Any]] = [{}]
    for name, tensor in model.state_dict().items():
        if sum(kept.nbytes for kept in shards[-1].values()) + tensor.nbytes > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = tensor * 1.25 if name == "model.norm.weight" else tensor
    names = {}
    for number, shard in enumerate(shards):
        file = f"model-{number:05}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in shard.items()}, folder / file)
        names |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return sum(tensor.nbytes for shard in shards for tensor in shard.values())


async def push(part: Part, url: str, checkpoint: Path, size: int) -> None:
    watched = 4 if part.dry else ANSWERS
    bodies = [{"groups": [group((1, 2, 32, 4) if part.dry else GROUP)]}]
    async with Clients(url, bodies, 1) as once:
        await once.answers()  # compiles
    async with (
        Clients(url, bodies, 2 if part.dry else CLIENTS, endless=True) as clients,
        httpx.AsyncClient(base_url=url, timeout=600) as client,
    ):
        await clients.see(watched)
        began = time.time()
        answer = await client.post("/policy/load", json={"path": str(checkpoint), "weight_version": "1"})
        ended = time.time()
        answer.raise_for_status()
        await clients.see(watched)
        answers = await clients.answers()
    before = [each for each in answers if each.ended < began]
    during = [each for each in answers if each.ended >= began and each.began <= ended]
    usual = median(each.seconds for each in before)
    part.add(
        "pushed",
        gb=size / 1e9,
        seconds=ended - began,
        gb_per_s=size / 1e9 / (ended - began),
        requests=len(answers),
        failed=sum(each.status != 200 for each in answers),
        during=len(during),
        usual_ms=1e3 * usual,
        slowest_before_ms=1e3 * max(each.seconds for each in before),
        slowest_during_ms=1e3 * max(each.seconds for each in during),
        usual_gap_ms=1e3 * longest_gap(before),
        pause_ms=1e3 * longest_gap(during),
        versions=sorted({each.weight_version for each in answers if each.status == 200}),
    )


def longest_gap(answers: list[Answer]) -> float:
    """Return the longest time in which no client got an answer."""
    ends = sorted(each.ended for each in answers)
    return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)


if __name__ == "__main__":
    sys.exit(main())
