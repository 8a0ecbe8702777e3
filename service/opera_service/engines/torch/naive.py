"""The `naive` route: every query re-encoded from scratch by a plain transformers forward. The oracle.

Right-padded micro-batches; a causal model needs no mask for padding on the right. Knows nothing of sharing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import torch
from transformers import PreTrainedModel

from opera_service.engines.torch.readout import Readout


class NaiveRoute:
    """Works for every causal model that transformers can run."""

    name: ClassVar[str] = "naive"

    def __init__(self, model: PreTrainedModel, *, alone: bool = False) -> None:
        """`alone`: no context is padded to the length of another, for models whose numbers depend on that."""
        self._model = model
        self._alone = alone
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    def run(self, readout: Readout, max_tokens: int) -> None:
        """Score query by query, micro-batches of at most `max_tokens` padded tokens (one query at least)."""
        self.run_some(readout, max_tokens, range(readout.tree.num_queries))

    def run_some(self, readout: Readout, max_tokens: int, queries: Iterable[int]) -> None:
        """Score `queries` only; what the readout has for the others stays."""
        paths = {query: readout.tree.query_context(query) for query in queries}
        order = sorted(paths, key=lambda query: -len(paths[query][0]))
        while order:
            longest = len(paths[order[0]][0]) - 1
            size = max(1, max_tokens // longest)
            if self._alone:
                size = min(size, sum(len(paths[query][0]) == longest + 1 for query in order))
            self._batch(readout, {query: paths[query] for query in order[:size]}, longest)
            order = order[size:]

    def _batch(self, readout: Readout, paths: dict[int, tuple[np.ndarray, int]], longest: int) -> None:
        ids = np.zeros((len(paths), longest), dtype=np.int64)
        for row, (path, _) in enumerate(paths.values()):
            ids[row] = path[0]  # padding: a token that the row sees anyway, should there be one that makes NaN
            ids[row, : len(path) - 1] = path[:-1]
            readout.tokens_computed += len(path) - 1
        # The first row that is read anywhere in the batch; columns before it need no logits.
        first = min(context for _, context in paths.values()) - 1
        keep = {"logits_to_keep": longest - first} if self._keeps else {}
        device = self._model.device
        logits = self._model(input_ids=torch.as_tensor(ids, device=device), use_cache=False, **keep).logits
        offset = longest - logits.shape[1]
        for row, (query, (path, context)) in enumerate(paths.items()):
            scored = logits[row, context - 1 - offset : len(path) - 1 - offset]
            pairs = readout.tree.query_slice(query)
            readout.take_logits(np.arange(pairs.start, pairs.stop), scored, np.arange(len(scored)))
