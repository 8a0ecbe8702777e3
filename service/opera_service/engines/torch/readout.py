"""Turns hidden states of scored rows into log-probabilities, chunk by chunk.

Logits exist for one chunk of scored rows at a time, by the model's own head in its own dtype (so that soft-capping
and scaling of logits are the architecture's); the log-softmax is float32, or float64 for float64 models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from opera_client.errors import NotSupported
from opera_service.engines.chunks import chunk_rows
from opera_service.scoring.tree import TokenTree


class Head:
    """The model's own way from last hidden states to logits."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.chunk_rows = chunk_rows(model.device.type, int(model.config.get_text_config().vocab_size))
        self._dummy = torch.zeros(1, 1, dtype=torch.long, device=model.device)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return logits [n, V] of hidden states [n, H]: the model's forward with its backbone's answer given."""
        backbone = self._model.base_model
        if backbone is self._model:
            raise NotSupported(f"{type(self._model).__name__} has no separate head; use --route naive")
        with _answering(backbone, hidden[None]):
            logits: Tensor = self._model(input_ids=self._dummy, use_cache=False).logits
        return logits[0]


class _Answer(BaseModelOutputWithPast):
    """A backbone's answer; what an architecture may ask of it besides (router logits, …) is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


@contextmanager
def _answering(backbone: torch.nn.Module, hidden: Tensor) -> Iterator[None]:
    def forward(*_: Any, **__: Any) -> _Answer:
        return _Answer(last_hidden_state=hidden)  # type: ignore[arg-type]

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward


class Readout:
    """Collects the numbers of one batch as its hidden states or logits come in, in any order."""

    def __init__(self, tree: TokenTree, head: Head, dtype: torch.dtype) -> None:
        self.tree = tree
        self.tokens_computed = 0
        self.query_tokens: NDArray[np.int64] | None = None
        """int64[Q]: tokens computed for each query, of a route that can tell; None where the tree says it."""
        self.pairs_read = 0
        self.head = head
        self._dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self._order = np.argsort(tree.rows, kind="stable")
        self._rows = tree.rows[self._order]
        kind = np.float64 if self._dtype == torch.float64 else np.float32
        count, top = tree.num_scored, tree.want_top
        self.logprobs: NDArray[np.floating] = np.full(count, np.nan, dtype=kind)
        self.entropies = np.full(count, np.nan, dtype=kind) if tree.want_entropy else None
        self.top_ids = np.zeros((count, top), dtype=np.int32) if top else None
        self.top_logprobs = np.full((count, top), np.nan, dtype=kind) if top else None

    def rows_between(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return int64[n], ascending: which of tokens [start, stop) are read, counted from `start`."""
        first, last = np.searchsorted(self._rows, [start, stop])
        return np.unique(self._rows[first:last]).astype(np.int64) - start

    def spoilt_queries(self) -> list[int]:
        """Return the queries with a number that is not finite."""
        found = np.zeros(self.tree.num_scored, dtype=np.bool_)
        for numbers in (self.logprobs, self.entropies, self.top_logprobs):
            if numbers is not None:
                found |= ~np.isfinite(numbers.reshape(len(found), -1)).all(axis=1)
        return np.flatnonzero(np.logical_or.reduceat(found, self.tree.query_start[:-1])).tolist()

    def take_hidden(self, start: int, hidden: Tensor) -> None:
        """Read every scored row among tokens [start, start + n) off their hidden states [n, H]."""
        first, last = np.searchsorted(self._rows, [start, start + len(hidden)])
        rows, index = np.unique(self._rows[first:last] - start, return_inverse=True)
        for low in range(0, len(rows), self.head.chunk_rows):
            chunk = rows[low : low + self.head.chunk_rows]
            begin, end = np.searchsorted(index, [low, low + len(chunk)])
            logits = self.head(hidden[torch.as_tensor(chunk, device=hidden.device)])
            self.take_logits(self._order[first + begin : first + end], logits, index[begin:end] - low)

    def take_logits(self, pairs: NDArray[Any], logits: Tensor, index: NDArray[Any]) -> None:
        """Read scored pairs off logits [n, V]; pair k uses row index[k]."""
        self.pairs_read += len(pairs)
        # One fused kernel; logsumexp takes several passes and, on a CPU, ten times as long.
        every = torch.log_softmax(logits, dim=-1, dtype=self._dtype)
        where = torch.as_tensor(index, device=logits.device)
        targets = torch.as_tensor(self.tree.targets[pairs], device=logits.device).long()
        self.logprobs[pairs] = every[where, targets].cpu().numpy()
        if self.entropies is not None:
            entropy = torch.special.entr(every.exp()).sum(dim=-1)
            self.entropies[pairs] = entropy[where].cpu().numpy()
        if self.top_ids is not None and self.top_logprobs is not None:
            best = every.topk(min(self.tree.want_top, every.shape[-1]), dim=-1)
            self.top_ids[pairs] = best.indices[where].cpu().numpy()
            self.top_logprobs[pairs] = best.values[where].cpu().numpy()
