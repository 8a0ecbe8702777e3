"""What the torch engine's routes take, in seconds and memory, next to two baselines and the FLOP limit.

On a CPU times are process CPU seconds of one thread, so that a busy machine does not change ratios much; on a GPU
wall seconds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.scorer import TreeScorer
from scoring_memory import peak_mb
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
    ranking_contexts,
    spread,
)

GRID = [  # responses, boundaries each, response tokens, reference tokens
    (4, 4, 512, 16),
    (2, 16, 2048, 128),
    (4, 16, 512, 128),
    (2, 48, 2048, 16),
    (2, 48, 2048, 128),
    (4, 48, 512, 16),
    (1, 48, 4096, 128),
    (1, 16, 4096, 16),
    (4, 4, 512, 512),
]
WIDE_GRID = [(4, 16, 512, 128), (2, 48, 2048, 16)]
QUICK_GRID = [(2, 4, 128, 16), (2, 16, 256, 8)]
CUDA_GRID = [(8, 16, 2048, 128), (8, 48, 4096, 16), (8, 48, 4096, 128)]
TARGETS = {(2, 16, 2048, 128): 9.0, (2, 48, 2048, 16): 25.0, (1, 48, 4096, 128): 14.0, (4, 16, 512, 128): 3.0}
"""Speed-up over (a) that the default route must reach on the `small` shape."""
ROUNDS = 3
SAMPLED_TOKENS = 12_000
"""About as many context tokens of a baseline are measured a round, in whole batches, and scaled to all."""


def once(work: Callable[[], Any], device: str) -> float:
    """Return the seconds of one run: of the process's CPU, or of the wall on a GPU."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    with torch.inference_mode():
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def seconds(work: Callable[[], Any], device: str) -> float:
    """Return the median of the rounds."""
    return statistics.median(once(work, device) for _ in range(ROUNDS))


class Baseline:
    """A way of scoring batch by batch, timed on other batches each round and scaled to all by exact FLOPs."""

    def __init__(
        self,
        batches: list[list[Context]],
        run: Callable[[list[Context]], None],
        flops: Callable[[Sequence[Context]], float],
    ) -> None:
        self._batches, self._run, self._flops = batches, run, flops
        self._spent = self._done = 0.0

    def round(self, number: int, device: str) -> None:
        chosen = spread(self._batches, SAMPLED_TOKENS, number / ROUNDS)
        self._spent += once(lambda: [self._run(batch) for batch in chosen], device)
        self._done += sum(map(self._flops, chosen))

    @property
    def seconds(self) -> float:
        return self._spent * sum(map(self._flops, self._batches)) / self._done


@dataclass
class Row:
    """One point of the grid."""

    model: str
    shape: tuple[int, ...]
    tokens_naive: int
    tokens_tree: int
    authors_s: float
    fair_s: float
    routes_s: dict[str, float]
    limit_s: float
    fair_flop_ratio: float
    memory_mb: dict[str, float]

    @property
    def default(self) -> float:
        """Seconds of the default route: the first that was measured."""
        return next(iter(self.routes_s.values()))

    def figures(self) -> dict[str, Any]:
        """Return everything, ratios included."""
        own = next(iter(self.routes_s))
        memory = self.memory_mb[own] / self.memory_mb["authors"] if self.memory_mb else None
        return asdict(self) | {
            "speedup_over_authors": self.authors_s / self.default,
            "speedup_over_fair": self.fair_s / self.default,
            "fraction_of_fair_flop_ratio": self.fair_s / self.default / self.fair_flop_ratio,
            "times_the_flop_limit": self.default / self.limit_s,
            "memory_over_authors": memory,
            "target": TARGETS.get(self.shape) if self.model == "small" else None,
        }


def baselines(loaded: LoadedModel, groups: list[list[Context]], flops: Flops, budget: int) -> dict[str, Baseline]:
    """Return (a) and (b) for these contexts."""
    contexts = [context for group in groups for context in group]
    return {
        "authors": Baseline(
            [batch for group in groups for batch in micro_batches(group)],
            lambda batch: authors_way(loaded.model, batch),
            lambda some: flops.contexts(some, head_everywhere=True),
        ),
        "fair": Baseline(
            budget_batches(contexts, budget),
            lambda batch: fair_baseline(loaded.model, batch, 512),
            lambda some: flops.contexts(some, head_everywhere=False),
        ),
    }


def measure(shape: str, point: tuple[int, ...], routes: Sequence[str], device: str, *, memory: bool) -> Row:
    """Measure one point; every round runs every method once, so that a busy minute is nobody's alone."""
    loaded, flops = make_model(shape, device), Flops(shape)
    groups = group_contexts(point, loaded.vocab_size)
    contexts = [context for group in groups for context in group]
    tree = make_tree(contexts)
    scorers = {route: TreeScorer(loaded, route=route) for route in routes}
    for scorer in scorers.values():
        scorer.score([tree if device == "cuda" else make_tree(contexts[:1])])  # compiles, warms up
    others = baselines(loaded, groups, flops, scorers[routes[0]].max_batch_tokens)
    plain, taken = [], {route: [] for route in routes}
    for number in range(ROUNDS):
        plain.append(once(lambda: plain_forward(loaded, PROMPT + point[2]), device))
        for route, scorer in scorers.items():
            taken[route].append(once(lambda scorer=scorer: scorer.score([tree]), device))
        for other in others.values():
            other.round(number, device)
    rate = flops.tokens(np.arange(PROMPT + point[2])) / statistics.median(plain)
    names = ("authors", "fair", *routes)
    return Row(
        model=shape,
        shape=point,
        tokens_naive=tree.naive_tokens,
        tokens_tree=tree.num_tokens,
        authors_s=others["authors"].seconds,
        fair_s=others["fair"].seconds,
        routes_s={route: statistics.median(times) for route, times in taken.items()},
        limit_s=flops.tree(tree) / rate,
        fair_flop_ratio=flops.contexts(contexts, head_everywhere=False) / flops.tree(tree),
        memory_mb={name: peak_mb(shape, point, name, device) for name in names} if memory else {},
    )


def plain_forward(loaded: LoadedModel, length: int) -> None:
    """One dense forward of one sequence, no mask, no head: what the model can do at best."""
    ids = np.random.default_rng(1).integers(0, loaded.vocab_size, (1, length))
    loaded.model.base_model(input_ids=torch.as_tensor(ids, device=loaded.device), use_cache=False)


def measure_ranking(shape: str, route: str, device: str, *, branches: int, prefix: int) -> dict[str, float]:
    """Rank candidates after one prefix: speed-up over the authors' way next to the ratio of tokens."""
    loaded = make_model(shape, device)
    contexts = ranking_contexts(branches, prefix, loaded.vocab_size)
    tree, flops = make_tree(contexts), Flops(shape)
    scorer = TreeScorer(loaded, route=route)
    scorer.score([make_tree(contexts[:1])])
    other = baselines(loaded, [contexts], flops, scorer.max_batch_tokens)["authors"]
    times = []
    for number in range(ROUNDS):
        times.append(once(lambda: scorer.score([tree]), device))
        other.round(number, device)
    own, authors = statistics.median(times), other.seconds
    ratio = tree.naive_tokens / tree.num_tokens
    return {"speedup": authors / own, "token_ratio": ratio, "fraction": authors / own / ratio}


def measure_utilisation(shape: str, point: tuple[int, ...], route: str) -> dict[str, float]:
    """On a GPU: share of the measured dense bf16 peak, and tokens/s next to those of a plain forward."""
    loaded, flops = make_model(shape, "cuda"), Flops(shape)
    square = torch.randn(8192, 8192, dtype=torch.bfloat16, device="cuda")
    gemm = 2 * 8192**3 * 10 / seconds(lambda: [square @ square for _ in range(10)], "cuda")
    tree = make_tree([each for group in group_contexts(point, loaded.vocab_size) for each in group])
    scorer = TreeScorer(loaded, route=route)
    scorer.score([tree])
    taken = seconds(lambda: scorer.score([tree]), "cuda")
    length = PROMPT + point[2]
    plain_forward(loaded, length)
    plain = length / seconds(lambda: plain_forward(loaded, length), "cuda")
    return {
        "gemm_tflops": gemm / 1e12,
        "model_flop_utilisation": flops.tree(tree) / taken / gemm,
        "tokens_per_s": tree.num_tokens / taken,
        "fraction_of_plain_tokens_per_s": tree.num_tokens / taken / plain,
    }


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "| model | n,S,R,G | tokens: naive → tree | (a) s | (b) s | "
        + " | ".join(f"{route} s" for route in rows[0].routes_s)
        + " | (a) ÷ default | target | (b) ÷ default ÷ FLOP ratio | ÷ FLOP limit | memory ÷ (a) |"
    )
    yield "|" + "---|" * (10 + len(rows[0].routes_s))
    for row in rows:
        figures = row.figures()
        memory = figures["memory_over_authors"]
        yield (
            f"| {row.model} | {','.join(map(str, row.shape))} | {row.tokens_naive} → {row.tokens_tree}"
            f" | {row.authors_s:.2f} | {row.fair_s:.2f} | "
            + " | ".join(f"{taken:.2f}" for taken in row.routes_s.values())
            + f" | {figures['speedup_over_authors']:.1f} | {figures['target'] or ''}"
            f" | {figures['fraction_of_fair_flop_ratio']:.2f} | {figures['times_the_flop_limit']:.2f}"
            f" | {'' if memory is None else f'{memory:.2f}'} |"
        )


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a Markdown table, return every figure."""
    torch.set_num_threads(1 if options.device == "cpu" else torch.get_num_threads())
    routes = options.routes or (["flex", "kv_fork"] if options.device == "cuda" else ["tree_sdpa", "kv_fork"])
    if options.device == "cuda":
        work = [("8b", point) for point in CUDA_GRID]
    elif options.quick:
        work = [("small", point) for point in QUICK_GRID]
    else:
        work = [("small", point) for point in GRID] + [("wide", point) for point in WIDE_GRID]
    rows = []
    for number, (shape, point) in enumerate(work, start=1):
        print(f"{number}/{len(work)} {shape} {point}", file=sys.stderr, flush=True)
        rows.append(measure(shape, point, routes, options.device, memory=not options.no_memory))
    print("\n".join(table(rows)))
    figures: dict[str, Any] = {"rows": [row.figures() for row in rows]}
    prefix = 256 if options.quick else 2048
    shape = "8b" if options.device == "cuda" else "small"
    figures["ranking"] = measure_ranking(shape, routes[0], options.device, branches=16, prefix=prefix)
    print(f"ranking 16 branches after {prefix} tokens: {_line(figures['ranking'])}")
    if options.device == "cuda":
        figures["utilisation"] = measure_utilisation("8b", CUDA_GRID[-1], routes[0])
        print(f"utilisation: {_line(figures['utilisation'])}")
    return figures


def _line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
