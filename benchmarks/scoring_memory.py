"""What a way of scoring needs beyond model and libraries, measured in a fresh process each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opera_service.engines.torch.scorer import DEFAULT_TOKENS, TreeScorer
from scoring_work import (
    authors_way,
    budget_batches,
    fair_baseline,
    group_contexts,
    make_model,
    make_tree,
    micro_batches,
)


def peak_mb(shape: str, point: tuple[int, ...], method: str, device: str) -> float:
    """Return what a method needs beyond model and libraries, in MB, measured in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return float(pool.apply(_peak_in_child, (shape, point, method, device)))


def _peak_in_child(shape: str, point: tuple[int, ...], method: str, device: str) -> float:
    torch.set_num_threads(1)
    loaded = make_model(shape, device)
    groups = group_contexts(point, loaded.vocab_size)
    contexts = [context for group in groups for context in group]
    tiny = [(np.arange(1, 9), 4)]
    with torch.inference_mode():
        if method in ("authors", "fair"):
            batches = (
                micro_batches(groups[0])
                if method == "authors"
                else budget_batches(contexts, DEFAULT_TOKENS["cpu"])
            )
            batch = max(batches, key=lambda batch: len(batch) * max(len(ids) for ids, _ in batch))
            run = authors_way if method == "authors" else lambda model, each: fair_baseline(model, each, 512)
            return growth_mb(lambda: run(loaded.model, tiny), lambda: run(loaded.model, batch), device)
        scorer = TreeScorer(loaded, route=method)
        tree = make_tree(contexts)
        return growth_mb(lambda: scorer.score([make_tree(tiny)]), lambda: scorer.score([tree]), device)


def growth_mb(warm: Callable[[], Any], work: Callable[[], Any], device: str) -> float:
    """Return by how many MB memory peaks above what it is after `warm`."""
    warm()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
    before = _peak_resident_kb()
    work()
    return (_peak_resident_kb() - before) / 1024


def _peak_resident_kb() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
