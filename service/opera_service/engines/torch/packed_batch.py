"""Packed batches: several token trees laid side by side, and the order in which their tokens are fed.

A batch is again a `TokenTree` (with several roots), so that no code below asks how many trees it holds.
`plan_steps` cuts its tokens into contiguous steps of bounded size and says which earlier tokens' keys and values
each step still needs. Pure numpy; knows no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from opera_service.scoring.tree import Ids, TokenTree

Interval = tuple[int, int]


def join(trees: Sequence[TokenTree]) -> TokenTree:
    """Return one tree that holds all of `trees` in order, with no path between them."""
    if len(trees) == 1:
        return trees[0]
    tokens = [0, *accumulate(tree.num_tokens for tree in trees)]
    pairs = [0, *accumulate(tree.num_scored for tree in trees)]
    parents = [
        np.where(tree.run_parent < 0, -1, tree.run_parent + base)
        for tree, base in zip(trees, tokens, strict=False)
    ]
    return TokenTree(
        tokens=np.concatenate([tree.tokens for tree in trees]),
        positions=np.concatenate([tree.positions for tree in trees]),
        run_start=_offset([tree.run_start for tree in trees], tokens),
        run_parent=np.concatenate(parents).astype(np.int32),
        rows=np.concatenate([tree.rows + base for tree, base in zip(trees, tokens, strict=False)]).astype(
            np.int32
        ),
        targets=np.concatenate([tree.targets for tree in trees]),
        query_start=_offset([tree.query_start for tree in trees], pairs),
        grows=np.concatenate([tree.grows for tree in trees]),
        want_entropy=any(tree.want_entropy for tree in trees),
        want_top=max(tree.want_top for tree in trees),
    )


def _offset(starts: Sequence[Ids], bases: Sequence[int]) -> Ids:
    shifted = [start[:-1] + base for start, base in zip(starts, bases, strict=False)]
    return np.concatenate([*shifted, [bases[-1]]]).astype(np.int32)


def last_descendant(tree: TokenTree) -> Ids:
    """int32[T]: index of the last token whose path goes through each token (itself at least)."""
    last = np.zeros(tree.num_tokens, dtype=np.int32)
    through = np.arange(tree.num_tokens, dtype=np.int32)  # last token of the branches that hang off each token
    for run in range(tree.num_paths - 1, -1, -1):
        start, stop = int(tree.run_start[run]), int(tree.run_start[run + 1])
        last[start:stop] = np.maximum.accumulate(through[start:stop][::-1])[::-1]
        parent = int(tree.run_parent[run])
        if parent >= 0:
            through[parent] = max(through[parent], last[start])
    return last


def preorder(tree: TokenTree) -> tuple[Ids, Ids]:
    """Return int32[T] preorder numbers of all tokens, and one past the number of the last token below each.

    Token k is token q or an ancestor of it exactly when number[k] <= number[q] < below[k].
    """
    branches = np.zeros(tree.num_tokens, dtype=np.int64)  # tokens of all branches that hang off each token
    for run in range(tree.num_paths - 1, -1, -1):
        start, stop = int(tree.run_start[run]), int(tree.run_start[run + 1])
        if tree.run_parent[run] >= 0:
            branches[tree.run_parent[run]] += stop - start + branches[start:stop].sum()
    number = np.zeros(tree.num_tokens, dtype=np.int32)
    below = np.zeros(tree.num_tokens, dtype=np.int32)
    free = np.zeros(
        tree.num_tokens + 1, dtype=np.int64
    )  # next number below each token; the last entry is the roots'
    for run in range(tree.num_paths):
        start, stop = int(tree.run_start[run]), int(tree.run_start[run + 1])
        parent, inside = int(tree.run_parent[run]), branches[start:stop]
        own = np.arange(stop - start) + np.cumsum(inside) - inside
        number[start:stop] = free[parent] + own
        free[start:stop] = number[start:stop] + 1
        free[parent] += stop - start + inside.sum()
        below[start:stop] = free[parent]
    return number, below


@dataclass(frozen=True)
class QueryBlock:
    """Consecutive tokens of one run inside one step, with all keys they may see.

    Along `keys` the positions are 0, 1, 2, … up to that of the block's last token, so the last key of a query
    is its own, and a distance in keys is a distance in positions.
    """

    start: int
    stop: int
    """Queries: [start, stop) within the step."""
    keys: tuple[Interval, ...]
    """Intervals of key slots, root first; they end with the block itself."""

    @property
    def num_keys(self) -> int:
        """Keys that the last query of the block sees."""
        return sum(stop - start for start, stop in self.keys)


@dataclass(frozen=True)
class Step:
    """Tokens [start, stop) of a batch, fed together.

    Their key slots are the kept tokens' first, then their own.
    """

    start: int
    stop: int
    kept: NDArray[np.int64]
    """Earlier tokens whose keys this step may see, ascending."""
    keep: NDArray[np.int64]
    """Key slots that later steps need, ascending."""
    blocks: tuple[QueryBlock, ...]

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start

    @property
    def num_keys(self) -> int:
        return len(self.kept) + self.num_tokens


def plan_steps(tree: TokenTree, max_tokens: int) -> Iterator[Step]:
    """Yield steps of at most `max_tokens` tokens; kept tokens are only those on a path of a later step."""
    last = last_descendant(tree)
    kept = np.zeros(0, dtype=np.int64)
    for start in range(0, tree.num_tokens, max_tokens):
        stop = min(start + max_tokens, tree.num_tokens)
        slots = np.concatenate([kept, np.arange(start, stop)])
        keep = np.flatnonzero(last[slots] >= stop)
        yield Step(start, stop, kept, keep, tuple(_blocks(tree, start, stop, kept)))
        kept = slots[keep]


def cut(block: QueryBlock, size: int, origin: int = 0) -> Iterator[QueryBlock]:
    """Cut a block every `size` queries counted from `origin`; each part has the keys up to its own end."""
    (*before, (low, high)) = block.keys
    start = block.start
    while start < block.stop:
        stop = min(start + size - (start - origin) % size, block.stop)
        yield QueryBlock(start, stop, (*before, (low, high - (block.stop - stop))))
        start = stop


def parts(block: QueryBlock, wanted: NDArray[np.int64]) -> Iterator[QueryBlock]:
    """Yield stretches of consecutive queries of a block that are in `wanted` (ascending places in the step)."""
    (*before, (low, high)) = block.keys
    inside = wanted[slice(*np.searchsorted(wanted, [block.start, block.stop]))]
    for stretch in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1):
        if len(stretch):
            start, stop = int(stretch[0]), int(stretch[-1]) + 1
            yield QueryBlock(start, stop, (*before, (low, high - (block.stop - stop))))


def _blocks(tree: TokenTree, start: int, stop: int, kept: NDArray[np.int64]) -> Iterator[QueryBlock]:
    first = tree.path_of(start)
    for run in range(first, tree.num_paths):
        low, high = max(start, int(tree.run_start[run])), min(stop, int(tree.run_start[run + 1]))
        if low >= stop:
            return
        keys: list[Interval] = []
        for begin, end in tree.intervals(high - 1):
            # All tokens of an interval are kept or in the step, with nothing between them: slots are consecutive.
            slot = len(kept) + begin - start if begin >= start else int(np.searchsorted(kept, begin))
            if keys and keys[-1][1] == slot:
                keys[-1] = (keys[-1][0], slot + end - begin)
            else:
                keys.append((slot, slot + end - begin))
        yield QueryBlock(low - start, high - start, tuple(keys))
