"""The `flex` route: one flex_attention over the packed batch, with a block mask built from intervals.

The default on GPUs, where it is compiled; on a CPU it runs uncompiled and slowly, for tests. No array of
[tokens, tokens] is made: blocks are counted from the intervals, and inside a block two numbers a token decide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad

from opera_service.engines.torch.packed import PackedRoute, StepAttention
from opera_service.engines.torch.packed_batch import Step, cut, preorder
from opera_service.scoring.tree import TokenTree

BLOCK = 128
"""Rows and columns of a mask block, the size the kernels are made for."""


class FlexAttention(StepAttention):
    """Queries and keys are padded to few lengths, so that few kernels are compiled; padding is never visible."""

    def __init__(self, tree: TokenTree, step: Step, read: NDArray[np.int64]) -> None:
        super().__init__(tree, step, read)
        self._masks: dict[tuple[int | None, bool], BlockMask] = {}

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, *, last: bool
    ) -> Tensor:
        """Return [1, t, H, D]; see the base class. The last layer skips blocks of which no query is read."""
        kind = (window, last)
        if kind not in self._masks:
            read = self.read if last else None
            self._masks[kind] = block_mask(self.tree, self.step, window, query.device, read)
        mask = self._masks[kind]
        tokens, (queries, keys) = query.shape[2], mask.seq_lengths
        query = pad(query, (0, 0, 0, queries - tokens))
        key, value = (pad(each, (0, 0, 0, keys - each.shape[2])) for each in (key, value))
        out: Tensor = _kernel(query.device.type)(query, key, value, block_mask=mask, scale=scale, enable_gqa=True)
        return out[:, :, :tokens].transpose(1, 2)


@cache
def _kernel(device: str) -> Callable[..., Any]:
    if device == "cpu":
        return flex_attention
    # One kernel per padded length, none for guessed dynamic shapes.
    torch._dynamo.config.recompile_limit = max(256, torch._dynamo.config.recompile_limit)
    return torch.compile(flex_attention, dynamic=False)


def padded(length: int) -> int:
    """Return the next of four lengths an octave, a multiple of the block."""
    unit = max(BLOCK, 1 << max(0, (length - 1).bit_length() - 3))
    return -(-length // unit) * unit


def block_mask(
    tree: TokenTree,
    step: Step,
    window: int | None,
    device: torch.device,
    read: NDArray[np.int64] | None = None,
) -> BlockMask:
    """Return the mask of a step's queries over its key slots, both padded.

    A sliding `window` counts positions, never places in the packed order: a query sees itself and the
    window - 1 positions before it. Blocks of queries of which none is in `read` see nothing.
    """
    queries, keys = padded(step.num_tokens), padded(step.num_keys)
    some, full = block_kinds(tree, step, window)
    if read is not None:
        idle = np.setdiff1d(np.arange(len(some)), read // BLOCK)
        some[idle] = full[idle] = False
    number, below = preorder(tree)
    slots = np.concatenate([step.kept, np.arange(step.start, step.stop)])
    own = slice(step.start, step.stop)

    def device_ids(values: NDArray[Any], length: int, filler: int) -> Tensor:
        whole = np.full(length, filler, dtype=np.int32)
        whole[: len(values)] = values
        return torch.as_tensor(whole, device=device)

    visible = _visible(
        device_ids(number[own], queries, -1),
        device_ids(number[slots], keys, 2**31 - 1),
        device_ids(below[slots], keys, 0),
    )
    if window is not None:
        visible = _within(
            visible,
            device_ids(tree.positions[own], queries, 0),
            device_ids(tree.positions[slots], keys, 0),
            torch.tensor(window, dtype=torch.int32, device=device),
        )
    return BlockMask.from_kv_blocks(
        *_ordered(some & ~full, device),
        *_ordered(full, device),
        BLOCK_SIZE=BLOCK,
        mask_mod=visible,
        seq_lengths=(queries, keys),
    )


Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _visible(query_number: Tensor, key_number: Tensor, key_below: Tensor) -> Mask:
    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key_number[key] <= query_number[query]) & (query_number[query] < key_below[key])

    return visible


def _within(visible: Mask, query_position: Tensor, key_position: Tensor, window: Tensor) -> Mask:
    def within(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return visible(_batch, _head, query, key) & (query_position[query] - key_position[key] < window)

    return within


def block_kinds(tree: TokenTree, step: Step, window: int | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return bool [query blocks, key blocks]: where anything may be visible, and where everything is."""
    low = np.arange(0, padded(step.num_keys), BLOCK)
    count = np.zeros((padded(step.num_tokens) // BLOCK, len(low)), dtype=np.int64)
    for whole in step.blocks:
        for block in cut(whole, BLOCK):
            rows = block.stop - block.start
            row = count[block.start // BLOCK]
            for number, (begin, end) in enumerate(block.keys):
                # Every query sees these; the last interval ends with the queries' own triangle.
                shared = end - rows + 1 if number == len(block.keys) - 1 else end
                row += rows * np.clip(np.minimum(low + BLOCK, shared) - np.maximum(low, begin), 0, None)
            ends = np.arange(end - rows + 1, end + 1)[:, None]
            row += np.clip(np.minimum(low + BLOCK, ends) - np.maximum(low, shared), 0, None).sum(0)
    some, full = count > 0, count == BLOCK * BLOCK
    if window is not None:
        first, last = _extremes(tree.positions[step.start : step.stop], len(count))
        slots = np.concatenate([step.kept, np.arange(step.start, step.stop)])
        key_first, key_last = _extremes(tree.positions[slots], len(low))
        some &= first[:, None] - key_last[None] < window
        full &= last[:, None] - key_first[None] < window
    return some, full


def _extremes(positions: NDArray[Any], blocks: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the smallest and largest position in each block; blocks of padding get 0."""
    starts = np.arange(0, len(positions), BLOCK)
    found = np.zeros((2, blocks), dtype=np.int64)
    found[0, : len(starts)] = np.minimum.reduceat(positions, starts)
    found[1, : len(starts)] = np.maximum.reduceat(positions, starts)
    return found[0], found[1]


def _ordered(blocks: NDArray[np.bool_], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return int32 [1, 1, Q] counts and [1, 1, Q, K] indices, the chosen key blocks first."""
    counts = blocks.sum(axis=1).astype(np.int32)
    order = np.argsort(~blocks, axis=1, kind="stable").astype(np.int32)
    return torch.as_tensor(counts[None, None], device=device), torch.as_tensor(order[None, None], device=device)


class FlexRoute(PackedRoute):
    """Packed forward with flex_attention."""

    name: ClassVar[str] = "flex"
    attention: ClassVar[type[StepAttention]] = FlexAttention
