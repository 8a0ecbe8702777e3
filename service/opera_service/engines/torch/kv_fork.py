"""The `kv_fork` route: walk the tree with the model's own cache and copy it at every fork.

Works for every architecture whose cache can continue (sliding windows, linear attention, hybrids), with any
length; holds one trunk at a time, so it needs the least memory. Knows nothing of attention.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from opera_service.engines.torch.readout import Readout
from opera_service.scoring.tree import TokenTree

Past = dict[str, Any]
"""A model's cache under the keyword that the model takes it by; empty before the first call."""
_CACHES = ("past_key_values", "cache_params")


class KvForkRoute:
    """One run after another, branch by branch."""

    name: ClassVar[str] = "kv_fork"

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def run(self, readout: Readout, max_tokens: int) -> None:
        """Walk every root's tree; no forward takes more than `max_tokens` tokens."""
        children = _children(readout.tree)
        for root in children.get(-1, []):
            self._walk(readout, max_tokens, children, root, {})

    def _walk(
        self, readout: Readout, max_tokens: int, children: dict[int, list[int]], run: int, past: Past
    ) -> None:
        """Continue `past` (owned by this call) along `run`; branches get copies when the walk passes them."""
        tree = readout.tree
        end = int(tree.run_start[run + 1])
        for start, stop in _segments(tree, run, children, max_tokens):
            ids = torch.as_tensor(tree.tokens[None, start:stop], device=self._model.device).long()
            answer = self._model.base_model(input_ids=ids, use_cache=True, **past)
            past = past_of(answer)
            readout.tokens_computed += stop - start
            readout.take_hidden(start, answer[0][0])
            branches = children.get(stop - 1, [])
            for number, branch in enumerate(branches):
                last = stop == end and number == len(branches) - 1
                self._walk(readout, max_tokens, children, branch, past if last else fork(past))


def _children(tree: TokenTree) -> dict[int, list[int]]:
    """Return parent token -> runs; roots hang off -1."""
    found: dict[int, list[int]] = {}
    for run, parent in enumerate(tree.run_parent):
        found.setdefault(int(parent), []).append(run)
    return found


def _segments(
    tree: TokenTree, run: int, children: dict[int, list[int]], max_tokens: int
) -> Iterator[tuple[int, int]]:
    """Cut a run after every token that a branch hangs off, and into blocks of at most `max_tokens`."""
    start, end = int(tree.run_start[run]), int(tree.run_start[run + 1])
    for stop in [*sorted(token + 1 for token in children if start <= token < end - 1), end]:
        while start < stop:
            yield start, min(start + max_tokens, stop)
            start = min(start + max_tokens, stop)


def past_of(answer: Any) -> Past:
    """Return what a model's next call needs to continue from its answer."""
    return {name: getattr(answer, name) for name in _CACHES if getattr(answer, name, None) is not None}


def fork(past: Past) -> Past:
    """Return an independent copy of a cache.

    Attention layers grow by concatenation and never write into their tensors, so these are shared; anything
    else (recurrent states are updated in place) is copied.
    """
    shared: dict[int, Any] = {}
    for cache in past.values():
        for layer in getattr(cache, "layers", ()):
            if type(layer) in (DynamicLayer, DynamicSlidingWindowLayer):
                tensors = (value for value in vars(layer).values() if isinstance(value, torch.Tensor))
                shared.update({id(tensor): tensor for tensor in tensors})
    return copy.deepcopy(past, shared)
