"""What scoring takes with a model and shapes of your own, and what a fleet needs for it.

`bench scoring --model PATH [--shape n,S,R,G …] [--trajectories N]`: trajectories a second, hours of a device for
N of them, memory, the token budget and the route to serve with. Texts are random ids; only lengths matter. On
a CPU all seconds are one thread's own, whatever else runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from opera_client.errors import OperaError
from opera_service.engines.torch.loading import LoadedModel, load_model
from opera_service.engines.torch.readout import Head
from opera_service.engines.torch.route_by_size import MEASURE_S, RouteBySize, Timing, timings
from opera_service.engines.torch.routes import ROUTES
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.scoring.tree import TokenTree
from scoring_memory import growth_mb
from scoring_torch import once
from scoring_work import PROMPT, group_contexts, make_tree

SHAPES = {"cpu": [(4, 4, 256, 32), (4, 8, 512, 64)], "cuda": [(8, 8, 1024, 128), (8, 16, 4096, 256)]}
BUDGETS = {"cpu": (512, 1024, 2048, 4096), "cuda": (8192, 16384, 32768, 65536, 131072)}
QUICK_BUDGETS = (256, 512)
GOOD_ENOUGH = 0.97
"""The smallest budget that reaches this part of the best one's speed is recommended: it needs the least memory."""


@dataclass(frozen=True)
class Row:
    """One shape."""

    shape: tuple[int, ...]
    """Responses, boundaries each, response tokens, reference tokens."""
    tokens: int
    """Distinct ones of a group."""
    tokens_naive: int
    seconds: float
    trajectories_per_s: float
    tokens_per_s: float
    device_hours: float
    """For all trajectories that were asked for."""


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print tables and the flags to serve with, return every figure; a bad request ends the program."""
    if options.device == "cpu":
        torch.set_num_threads(1)
    try:
        loaded = load_model(options.model, dtype=options.dtype, device=options.device)
        scorer = TreeScorer(loaded, measure_s=MEASURE_S.get(options.device, 0.0))
    except OperaError as error:
        raise SystemExit(error.message) from None
    shapes = [fitting(shape, loaded) for shape in options.shape or SHAPES[options.device]]
    trees = {shape: group_tree(shape, loaded) for shape in shapes}
    hardest = max(trees.values(), key=lambda tree: tree.num_tokens)
    budgets = QUICK_BUDGETS if options.quick else BUDGETS[options.device]
    speeds = measure_budgets(scorer, hardest, budgets, options.device)
    scorer.max_batch_tokens = budget = recommended(speeds)
    rows = [measure(scorer, shape, tree, options) for shape, tree in trees.items()]
    memory = None if options.no_memory else memory_mb(scorer, hardest, options.device)
    by_size = measure_routes(loaded, budget, options.device)
    print("\n".join(tables(rows, speeds, by_size, options.trajectories)))
    weights = sum(each.nbytes for each in {id(p): p for p in loaded.model.parameters()}.values()) / 2**20
    room = "" if memory is None else f", and {memory:,.0f} MB beside them for a batch"
    print(f"\nWeights take {weights:,.0f} MB{room}; a push of new weights takes the weights' size once more.")
    reason = f" ({scorer.route.reason})" if isinstance(scorer.route, RouteBySize) else ""
    print(f"Route: {scorer.route.name}{reason}.")
    print(f"opera-reward serve --model {options.model} --max-batch-tokens {budget} --route auto")
    return {
        "rows": [asdict(row) for row in rows],
        "budgets": speeds,
        "max_batch_tokens": budget,
        "weights_mb": weights,
        "memory_mb": memory,
        "route": scorer.route.name,
        "routes_s": {timing.tokens: timing.seconds for timing in by_size},
        "trajectories": options.trajectories,
    }


def fitting(shape: tuple[int, ...], loaded: LoadedModel) -> tuple[int, ...]:
    """Return the shape. Ends the program when the model is too short for it."""
    longest = PROMPT + shape[2] + shape[3]
    if longest > loaded.max_context:
        named = ",".join(map(str, shape))
        raise SystemExit(
            f"--shape {named} has contexts of {longest} tokens with the prompt's {PROMPT}; {loaded.name} takes"
            f" {loaded.max_context}. Give a shorter one"
        )
    return shape


def group_tree(shape: tuple[int, ...], loaded: LoadedModel) -> TokenTree:
    groups = group_contexts(shape, loaded.vocab_size)
    return make_tree([context for group in groups for context in group])


def measure_budgets(scorer: TreeScorer, tree: TokenTree, budgets: Sequence[int], device: str) -> dict[int, float]:
    """Return tokens a second by token budget, on as many copies of the tree as fill the largest budget."""
    many = [tree] * max(1, round(budgets[-1] / tree.num_tokens))
    found = {}
    for budget in budgets:
        print(f"token budget {budget}", file=sys.stderr, flush=True)
        scorer.max_batch_tokens = budget
        scorer.score(many)  # compiles
        found[budget] = len(many) * tree.num_tokens / once(lambda: scorer.score(many), device)
    return found


def recommended(speeds: dict[int, float]) -> int:
    """Return the smallest budget that is nearly as fast as the fastest."""
    return min(budget for budget, speed in speeds.items() if speed >= GOOD_ENOUGH * max(speeds.values()))


def measure(scorer: TreeScorer, shape: tuple[int, ...], tree: TokenTree, options: argparse.Namespace) -> Row:
    """Score groups of a shape until the budget is filled; a fleet's queue does the same."""
    groups = max(1, round(scorer.max_batch_tokens / tree.num_tokens))
    scorer.score([tree] * groups)
    seconds = once(lambda: scorer.score([tree] * groups), options.device) / groups
    return Row(
        shape=shape,
        tokens=tree.num_tokens,
        tokens_naive=tree.naive_tokens,
        seconds=seconds,
        trajectories_per_s=shape[0] / seconds,
        tokens_per_s=tree.num_tokens / seconds,
        device_hours=options.trajectories * seconds / shape[0] / 3600,
    )


def memory_mb(scorer: TreeScorer, tree: TokenTree, device: str) -> float:
    """Return what a full batch needs beside the weights."""
    many = [tree] * max(1, round(scorer.max_batch_tokens / tree.num_tokens))
    return growth_mb(lambda: None, lambda: scorer.score(many), device)


def measure_routes(loaded: LoadedModel, budget: int, device: str) -> list[Timing]:
    """Return what every packed or forked route takes by size, in the time that a start may take for it."""
    names = ("flex", "tree_sdpa", "kv_fork") if device == "cuda" else ("tree_sdpa", "kv_fork")
    right = []
    for name in names:
        try:
            TreeScorer(loaded, route=name)
        except OperaError:
            continue  # not this model's
        right.append(ROUTES[name](loaded.model))
    return timings(loaded, Head(loaded.model), right, budget, 4 * MEASURE_S.get(device, 1.0)) if right else []


def tables(
    rows: Sequence[Row], speeds: dict[int, float], by_size: Sequence[Timing], trajectories: int
) -> Iterator[str]:
    yield (
        f"| n,S,R,G | tokens: naive → tree | s a group | trajectories/s | tokens/s | hours for {trajectories:,} |"
    )
    yield "|" + "---|" * 6
    for row in rows:
        yield (
            f"| {','.join(map(str, row.shape))} | {row.tokens_naive:,} → {row.tokens:,} | {row.seconds:.3f}"
            f" | {row.trajectories_per_s:.2f} | {row.tokens_per_s:,.0f} | {row.device_hours:,.1f} |"
        )
    yield ""
    yield "| token budget | tokens/s |"
    yield "|---|---|"
    yield from (f"| {budget:,} | {speed:,.0f} |" for budget, speed in speeds.items())
    if by_size:
        yield ""
        yield "| tokens | " + " | ".join(f"{name} s" for name in by_size[0].seconds) + " |"
        yield "|" + "---|" * (1 + len(by_size[0].seconds))
        for timing in by_size:
            yield f"| {timing.tokens:,} | " + " | ".join(f"{each:.4f}" for each in timing.seconds.values()) + " |"


def shape_of(text: str) -> tuple[int, ...]:
    """Read `n,S,R,G`. Raises `argparse.ArgumentTypeError`, naming what is wrong."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 4 or min(shape) < 1 or shape[1] >= shape[2]:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no n,S,R,G: responses, boundaries each, response tokens, reference tokens; S below R"
        )
    return shape
