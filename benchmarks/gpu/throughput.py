"""Part (b): how fast an 8B-shaped model is scored, against what the card can do and against two baselines.

Random weights in bfloat16, flex. The peak is a matrix product measured in this run; model FLOPs are exact (layers,
visible attention, head on scored rows; the last layer counts as if it were computed for all tokens). Baselines are
timed on evenly spread batches and scaled by their FLOPs. Every row is on disk before the next one begins.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from gpu.part import Part
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.memory import out_of_memory
from opera_service.engines.torch.scorer import TreeScorer
from scoring_work import (
    PROMPT,
    Context,
    Flops,
    authors_way,
    budget_batches,
    fair_baseline,
    group_contexts,
    make_model,
    make_tree,
    micro_batches,
    spread,
)

POINTS = [(2, 16, 2048, 128), (16, 16, 2048, 128), (2, 48, 4096, 16), (1, 16, 32512, 128)]
"""Responses, boundaries each, response tokens, reference tokens. The last fills a context of 32k."""
SIZES = (256, 512, 1024, 2048, 4096)
ROUNDS = 3
ROUTE = "flex"
SAMPLED_TOKENS = 16_000


def main() -> int:
    part = Part("throughput")
    shape = "tiny" if part.dry else "8b"
    peak = measure_peak(part)
    loaded, flops = make_model(shape, part.device.type), Flops(shape)
    scorer = TreeScorer(loaded, route=ROUTE)
    for point in [(2, 3, 20, 4), (1, 2, 40, 4)] if part.dry else POINTS:
        if part.has(20):
            measure_point(part, loaded, scorer, flops, point, peak)
    measure_routes(part, loaded, scorer)
    part.finish()
    return 0


def seconds(part: Part, work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Return the median time of `work`, the device's own included."""
    times = []
    for _ in range(rounds):
        part.wait()
        began = time.perf_counter()
        with torch.inference_mode():
            work()
        part.wait()
        times.append(time.perf_counter() - began)
    return median(times)


def measure_peak(part: Part) -> float:
    """Return the FLOP/s of a large product of random matrices; the row has the copy rate, too."""
    size, times = (128, 2) if part.dry else (8192, 10)
    one, other = (torch.randn(size, size, dtype=torch.bfloat16, device=part.device) for _ in range(2))
    product = torch.empty_like(one)
    torch.mm(one, other, out=product)
    peak = times * 2 * size**3 / seconds(part, lambda: [torch.mm(one, other, out=product) for _ in range(times)])
    source = torch.randn(2**10 if part.dry else 2**30, device=part.device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / seconds(part, lambda: target.copy_(source))
    part.add("peak", matrix=size, tflops=peak / 1e12, copy_tb_s=copied / 1e12)
    return peak


def measure_point(
    part: Part, loaded: LoadedModel, scorer: TreeScorer, flops: Flops, point: tuple[int, ...], peak: float
) -> None:
    """Add the tree's row, then the baselines' rows as they come in."""
    groups = group_contexts(point, loaded.vocab_size)
    contexts = [context for group in groups for context in group]
    tree = make_tree(contexts)
    began = time.perf_counter()
    scorer.score([tree])
    first = time.perf_counter() - began
    taken, memory = measured(part, lambda: scorer.score([tree]))
    if taken is None:
        part.add("tree", point=point, tokens_tree=tree.num_tokens, seconds=None)
        return
    length = min(PROMPT + point[2], scorer.max_batch_tokens)
    ids = torch.as_tensor(np.random.default_rng(1).integers(0, loaded.vocab_size, (1, length)), device=part.device)
    loaded.model.base_model(input_ids=ids, use_cache=False)
    plain = seconds(part, lambda: loaded.model.base_model(input_ids=ids, use_cache=False))
    part.add(
        "tree",
        point=point,
        tokens_naive=tree.naive_tokens,
        tokens_tree=tree.num_tokens,
        first_s=first,
        seconds=taken,
        tokens_per_s=tree.num_tokens / taken,
        trajectories_per_s=point[0] / taken,
        utilisation=flops.tree(tree) / taken / peak,
        over_plain_forward=tree.num_tokens / taken * plain / length,
        memory_gb=memory,
    )
    ways: dict[str, tuple[Callable[[Any], None], list[list[Context]], bool]] = {
        "authors": (
            lambda batch: authors_way(loaded.model, batch),
            [batch for group in groups for batch in micro_batches(group)],
            True,
        ),
        "fair": (
            lambda batch: fair_baseline(loaded.model, batch, 2048),
            budget_batches(contexts, 32768),
            False,
        ),
    }
    for name, (run, batches, everywhere) in ways.items():
        if not part.has(15):
            return
        chosen = spread(batches, SAMPLED_TOKENS, 0.5)
        spent, memory = measured(part, lambda run=run, chosen=chosen: [run(batch) for batch in chosen], rounds=1)
        whole, done = (work_of(flops, some, everywhere=everywhere) for some in (batches, chosen))
        total = None if spent is None else spent * whole / done
        part.add(
            "baselines",
            point=point,
            way=name,
            seconds=total,
            tree_is_faster=None if total is None else total / taken,
            flop_ratio=whole / flops.tree(tree),
            memory_gb=memory,
        )


def work_of(flops: Flops, batches: Sequence[Sequence[Context]], *, everywhere: bool) -> float:
    return flops.contexts([context for batch in batches for context in batch], head_everywhere=everywhere)


def measured(part: Part, work: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float | None, float | None]:
    """Return seconds and GB beyond the weights; None for both when memory ends."""
    try:
        if part.device.type != "cuda":
            return seconds(part, work, rounds), None
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        taken = seconds(part, work, rounds)
        return taken, (torch.cuda.max_memory_allocated() - before) / 1e9
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    torch.cuda.empty_cache()
    return None, None


def measure_routes(part: Part, loaded: LoadedModel, flex: TreeScorer) -> None:
    """Add the seconds of every route at growing sizes: where flex begins to win is the threshold of `auto`."""
    scorers = {"flex": flex, **{name: TreeScorer(loaded, route=name) for name in ("tree_sdpa", "kv_fork")}}
    for size in (64, 128) if part.dry else SIZES:
        if not part.has(12):
            return
        tree = make_tree(group_contexts((2, 4, size // 4, max(2, size // 32)), loaded.vocab_size)[0])
        found = {}
        for name, scorer in scorers.items():
            scorer.score([tree])
            found[name] = seconds(part, lambda scorer=scorer, tree=tree: scorer.score([tree]))
        part.add("routes", tokens=tree.num_tokens, **{f"{name}_s": taken for name, taken in found.items()})


if __name__ == "__main__":
    sys.exit(main())
