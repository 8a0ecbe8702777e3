"""What a group costs on vLLM: shared prefixes against vLLM's own `prompt_logprobs` and against the torch engine.

All ways run turn by turn on the same trees, vLLM's on one engine and, but for the repeat, on a cold cache. Times
are wall seconds, medians; differences are from the torch engine, in nats.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from vllm import SamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind

from opera_service.engines.base import Engine
from opera_service.engines.torch.engine import TorchEngine
from opera_service.engines.vllm.engine import VllmEngine
from opera_service.scoring.tree import TokenTree
from scoring_served import Served, compare
from scoring_work import PROMPT, group_contexts, make_model, make_tree

GRID = [(2, 16, 2048, 128), (1, 8, 2400, 20)]
"""Responses, boundaries each, response tokens, reference tokens."""
QUICK_GRID = [(2, 4, 128, 16)]
ROUNDS = 3
DEFAULT, COLD, AGAIN, TORCH = "vLLM prompt_logprobs", "this engine, cold", "this engine, again", "torch engine"

Scored = tuple[np.ndarray, int]
"""Log-probabilities in the order of the tree's targets, and tokens computed."""


@dataclass(frozen=True)
class Way:
    """One line of a table."""

    name: str
    tokens: int
    seconds: float
    difference: float
    """The largest, from the torch engine."""


@dataclass(frozen=True)
class Row:
    """One point of the grid."""

    shape: tuple[int, ...]
    distinct: int
    naive: int
    ways: list[Way]

    def figures(self) -> dict[str, Any]:
        """Return everything, ratios included."""
        slowest = next(way.seconds for way in self.ways if way.name == DEFAULT)
        ways = {
            way.name: asdict(way) | {"per_distinct": way.tokens / self.distinct, "faster": slowest / way.seconds}
            for way in self.ways
        }
        return asdict(self) | {"ways": ways}


async def measure(engine: VllmEngine, other: Engine, point: tuple[int, ...], *, rounds: int = ROUNDS) -> Row:
    """Score `rounds` fresh trees in each way; the first ones warm up and are not counted."""
    llm = engine.running()._llm  # noqa: SLF001

    async def through(scorer: Engine, tree: TokenTree) -> Scored:
        (scores,) = await scorer.score([tree])
        return np.asarray(scores.logprobs), scores.tokens_computed

    async def default(tree: TokenTree) -> Scored:
        found = await asyncio.gather(*(_default_query(llm, tree, query) for query in range(tree.num_queries)))
        return np.concatenate([logprobs for logprobs, _ in found]), sum(computed for _, computed in found)

    async def cold(way: Callable[[TokenTree], Awaitable[Scored]], tree: TokenTree) -> tuple[Scored, float]:
        await llm.reset_prefix_cache()
        return await _timed(way(tree))

    async def once(seed: int) -> dict[str, tuple[Scored, float]]:
        tree = fresh_tree(point, engine.info.vocab_size, seed)
        return {
            DEFAULT: await cold(default, tree),
            COLD: await cold(lambda tree: through(engine, tree), tree),
            AGAIN: await _timed(through(engine, tree)),
            TORCH: await _timed(through(other, tree)),
        }

    await once(-1)
    runs = [await once(seed) for seed in range(rounds)]
    tree = fresh_tree(point, engine.info.vocab_size, 0)
    ways = []
    for name in (DEFAULT, COLD, AGAIN, TORCH):
        errors = [float(np.abs(run[name][0][0] - run[TORCH][0][0]).max()) for run in runs]
        computed = int(median(run[name][0][1] for run in runs))
        ways.append(Way(name, computed, median(run[name][1] for run in runs), max(errors)))
    return Row(point, tree.num_tokens, tree.naive_tokens, ways)


def fresh_tree(point: tuple[int, ...], vocab: int, seed: int) -> TokenTree:
    """Return the tree of one group; another seed gives other tokens, at the same boundaries."""
    contexts = [context for group in group_contexts(point, vocab) for context in group]
    renamed = np.random.default_rng(seed + 1).permutation(vocab)
    return make_tree([(renamed[ids], start) for ids, start in contexts])


async def _default_query(llm: Any, tree: TokenTree, query: int) -> Scored:
    ids, context = tree.query_context(query)
    params = SamplingParams(
        prompt_logprobs=0,
        flat_logprobs=True,
        max_tokens=1,
        temperature=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    output = None
    async for output in llm.generate(tokens_input(ids.tolist()), params, f"default-{id(tree)}-{query}"):  # noqa: B007
        pass
    logprobs = np.asarray(output.prompt_logprobs.logprobs[context - len(ids) :])
    return logprobs, len(ids) - (output.num_cached_tokens or 0)


async def _timed(call: Awaitable[Scored]) -> tuple[Scored, float]:
    began = time.perf_counter()
    return await call, time.perf_counter() - began


def table(rows: Sequence[Row]) -> Iterator[str]:
    titles = (
        "n,S,R,G",
        "tokens: naive → tree",
        "way",
        "tokens computed",
        "÷ distinct",
        "s",
        "times faster",
        "nats off",
    )
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        for name, way in row.figures()["ways"].items():
            yield (
                f"| {','.join(map(str, row.shape))} | {row.naive} → {row.distinct} | {name} | {way['tokens']}"
                f" | {way['per_distinct']:.3f} | {way['seconds']:.2f} | {way['faster']:.1f}"
                f" | {way['difference']:.1e} |"
            )


async def run(device: str, grid: Sequence[tuple[int, ...]], model: str | None = None) -> tuple[list[Row], Served]:
    longest = max(point[2] + point[3] for point in grid) + PROMPT + 64
    on_cpu = device == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        if model is None:
            make_model("small" if on_cpu else "8b", device).model.save_pretrained(folder)
        source = model or folder
        other = TorchEngine.load(source, dtype="float32" if on_cpu else "bfloat16", device=device)
        engine = await VllmEngine.load(
            source,
            dtype="float32" if on_cpu else "bfloat16",
            max_model_len=longest,
            max_num_batched_tokens=2048 if on_cpu else 8192,
            enforce_eager=on_cpu,
            gpu_memory_utilization=None if on_cpu else 0.5,  # the torch engine needs some, too
        )
        try:
            rows = []
            for number, point in enumerate(grid, start=1):
                print(f"{number}/{len(grid)} {point}", file=sys.stderr, flush=True)
                rows.append(await measure(engine, other, point))
            return rows, await compare(engine, other, grid[0])
        finally:
            await engine.aclose()
            await other.aclose()


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a Markdown table and a line on the service, return every figure."""
    if options.device == "cpu":
        os.environ |= {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        }
        torch.set_num_threads(1)
    rows, served = asyncio.run(run(options.device, QUICK_GRID if options.quick else GRID, options.model))
    print("\n".join(table(rows)))
    print(served)
    return {"rows": [row.figures() for row in rows], "service": asdict(served)}
