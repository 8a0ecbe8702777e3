"""The `tree_sdpa` route: one scaled_dot_product_attention a block of queries, over exactly the keys it sees.

A path through a tree is a few contiguous intervals of keys, so a block needs their concatenation and a small
triangular mask; no [tokens, tokens] mask exists. The default on CPUs; needs no compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from opera_service.engines.torch.packed import PackedRoute, StepAttention
from opera_service.engines.torch.packed_batch import Interval, QueryBlock, Step, cut, parts
from opera_service.scoring.tree import TokenTree

_BLOCK = 128
"""Queries a block: long enough for a fast matrix product, short enough that few masked keys are computed."""
_ALIGNED = 16
"""Elements that a CUDA kernel may read of a mask at once."""


class SdpaAttention(StepAttention):
    """Query heads that share a key head are folded into the query axis, so keys are never repeated."""

    def __init__(self, tree: TokenTree, step: Step, read: NDArray[np.int64]) -> None:
        super().__init__(tree, step, read)
        self._blocks = [block for block in step.blocks for block in _blocks(block)]
        self._read_blocks = [
            block for block in step.blocks for part in parts(block, read) for block in _blocks(part)
        ]
        self._longest = max(block.num_keys for block in self._blocks)
        self._masks: dict[tuple[int | None, int], Tensor] = {}

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, *, last: bool
    ) -> Tensor:
        """Return [1, t, H, D]; see the base class."""
        heads, tokens, size = query.shape[1:]
        shared = key.shape[1]
        group = heads // shared
        folded = query.view(shared, group, tokens, size).transpose(1, 2).reshape(1, shared, tokens * group, size)
        out = torch.zeros_like(folded) if last else torch.empty_like(folded)
        with _kernels(query):
            for block in self._read_blocks if last else self._blocks:
                span = slice(block.start * group, block.stop * group)
                keys = _last(block.keys, window and window - 1 + block.stop - block.start)
                mask = self._mask(query, window, group, block.stop - block.start, sum(b - a for a, b in keys))
                out[:, :, span] = scaled_dot_product_attention(
                    folded[:, :, span], _gather(key, keys), _gather(value, keys), attn_mask=mask, scale=scale
                )
        return out.view(shared, tokens, group, size).transpose(0, 1).reshape(1, tokens, heads, size)

    def _mask(self, like: Tensor, window: int | None, group: int, queries: int, keys: int) -> Tensor:
        """Return an additive mask [queries * group, keys] whose last `queries` columns are the block itself."""
        kind = (window, group)
        if kind not in self._masks:
            back = self._longest if window is None else min(self._longest, window + _BLOCK)
            distance = torch.arange(_BLOCK)[:, None] - torch.arange(-back, _BLOCK)[None, :]
            hidden = (distance < 0) | (distance >= (window or distance.max() + 1))
            mask = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
            self._masks[kind] = mask.repeat_interleave(group, 0).to(like)
        mask = self._masks[kind]
        own = mask.shape[1] - _BLOCK
        view = mask[: queries * group, own - (keys - queries) : own + queries]
        return aligned(view) if view.is_cuda else view


def aligned(mask: Tensor) -> Tensor:
    """Return a copy [queries, keys] whose rows begin at multiples of 16 elements.

    A view's first column can lie anywhere, and PyTorch only looks at the length of rows: CUDA's memory-efficient
    kernel then faults with "misaligned address", which no process survives (seen on an H100, torch 2.11).
    """
    queries, keys = mask.shape
    return mask.new_empty(queries, -(-keys // _ALIGNED) * _ALIGNED)[:, :keys].copy_(mask)


def _kernels(query: Tensor) -> AbstractContextManager[None]:
    """Leave cuDNN out, which refuses these shapes when it runs, not when it is chosen (same machine)."""
    if not query.is_cuda:
        return nullcontext()
    allowed: AbstractContextManager[None] = sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])
    return allowed


def _blocks(block: QueryBlock) -> Iterator[QueryBlock]:
    """Cut a block into equal blocks, as few as possible."""
    queries = block.stop - block.start
    return cut(block, -(-queries // -(-queries // _BLOCK)), origin=block.start)


def _last(keys: tuple[Interval, ...], count: int | None) -> tuple[Interval, ...]:
    """Return the intervals of the last `count` keys; all of them for None."""
    if count is None:
        return keys
    found: list[Interval] = []
    for start, stop in reversed(keys):
        if count > 0:
            found.append((max(start, stop - count), stop))
            count -= stop - start
    return tuple(reversed(found))


def _gather(source: Tensor, keys: tuple[Interval, ...]) -> Tensor:
    views = [source[:, :, start:stop] for start, stop in keys]
    return views[0] if len(views) == 1 else torch.cat(views, dim=2)


class TreeSdpaRoute(PackedRoute):
    """Packed forward with SDPA over intervals."""

    name: ClassVar[str] = "tree_sdpa"
    attention: ClassVar[type[StepAttention]] = SdpaAttention
