"""The `kept_trunks` route: what was computed of a context is kept and continued, also by a later call.

A context is computed in blocks of fixed length from its start, and what is left of it behind the last whole block
together with its target. A target that grows is cut into blocks, too, with its numbers kept block by block. So a
number depends on its context and target only, not on what else is asked for or was
asked before: with and without kept trunks it is the same in every bit. That makes hints safe. It re-reads up to
`BLOCK` tokens a query, and feeds one query at a time: for trajectories that grow, not for large batches.

Knows a model's cache; no tree layout, no request.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from opera_client.errors import NotSupported
from opera_service.engines.base import KEPT_BLOCK
from opera_service.engines.torch.memory import out_of_memory
from opera_service.engines.torch.readout import Readout
from opera_service.scoring.tree import Ids

log = logging.getLogger(__name__)

BLOCK = KEPT_BLOCK
_PIECE = 512
"""Tokens of what follows the last whole block that go through the model at a time."""
KEPT_TOKENS = 65_536
"""Tokens of trunks in memory, by default; as many log-probs of targets."""


class _Block(NamedTuple):
    """What later tokens need of one block, and what its last token predicts."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values [1, H, BLOCK, D]."""
    last: Tensor
    """The last token's hidden state [1, H]."""


class _Kept:
    """Values by digest, `size` each, at most `most` in all; the longest unused leave first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._values: OrderedDict[bytes, tuple[int, object]] = OrderedDict()

    def get(self, key: bytes) -> object | None:
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[1]

    def put(self, key: bytes, value: object, size: int) -> None:
        """Take a value; `trim` makes room."""
        self.held += size - self._values.pop(key, (0, None))[0]
        self._values[key] = (size, value)

    def trim(self) -> None:
        """Let the longest unused go until the rest fits."""
        while self.held > self.most:
            _, (gone, _) = self._values.popitem(last=False)
            self.held -= gone

    def clear(self) -> None:
        self._values.clear()
        self.held = 0


class KeptTrunksRoute:
    """One query after another, each on the longest trunk that is kept."""

    name: ClassVar[str] = "kept_trunks"

    def __init__(self, model: PreTrainedModel, kept_tokens: int = KEPT_TOKENS) -> None:
        """Keep at most `kept_tokens` tokens of trunks, and as many log-probs. 0 keeps nothing.

        Raises `NotSupported` for a model that is not full attention in every layer.
        """
        kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"} or getattr(model, "_is_stateful", False):
            raise NotSupported("route kept_trunks needs full attention in every layer; use --route auto")
        self._model = model
        self._kept_tokens = kept_tokens
        self._trunks, self.answers = _Kept(kept_tokens), _Kept(kept_tokens)
        self.hits = 0

    @property
    def held_tokens(self) -> int:
        """Tokens of trunks in memory now."""
        return self._trunks.held

    def forget(self) -> None:
        """Drop everything: other weights serve from here on, or memory ran out."""
        self._trunks.clear()
        self.answers.clear()
        self._trunks.most = self._kept_tokens

    def run(self, readout: Readout, max_tokens: int) -> None:  # noqa: ARG002  pieces must not depend on the budget
        """Answer query by query; what a forward takes is bounded by `_PIECE`, not by the budget.

        Where memory ends, half as much is kept from then on, at last nothing: that costs time, no number.
        """
        tree = readout.tree
        readout.query_tokens = np.zeros(tree.num_queries, dtype=np.int64)
        plain = not (tree.want_entropy or tree.want_top)
        for query in range(tree.num_queries):
            ids, context = tree.query_context(query)
            pairs = np.arange(tree.num_scored)[tree.query_slice(query)]
            key = _digest(ids.tobytes(), f"{context} {tree.grows[query]}".encode())
            known = self.answers.get(key) if plain else None
            if isinstance(known, np.ndarray):
                self.hits += 1
                readout.logprobs[pairs] = known
                readout.pairs_read += len(pairs)
                continue
            computed = readout.tokens_computed
            self._compute_within_memory(readout, ids, context, query)
            readout.query_tokens[query] = readout.tokens_computed - computed
            if plain:
                self.answers.put(key, readout.logprobs[pairs].copy(), len(pairs))
                self.answers.trim()

    def _compute_within_memory(self, readout: Readout, ids: Ids, context: int, query: int) -> None:
        """Compute a query. Raises what the model does when memory ends although nothing is kept."""
        read = readout.pairs_read
        while True:
            try:
                self._compute(readout, ids, context, query)
                return
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not self._trunks.most:
                    raise
            # Outside of `except`, whose traceback holds the tensors that are in the way.
            readout.pairs_read = read
            self._trunks.most = min(self._trunks.most, max(self._trunks.held, BLOCK)) // (2 * BLOCK) * BLOCK
            log.warning("memory ran out: at most %d tokens of trunks are kept from here on", self._trunks.most)
            self._trunks.clear()
            if self._model.device.type == "cuda":
                torch.cuda.empty_cache()

    def _compute(self, readout: Readout, ids: Ids, context: int, query: int) -> None:
        tree, path = readout.tree, ids[:-1]
        pairs = np.arange(tree.num_scored)[tree.query_slice(query)]
        grows, plain = bool(tree.grows[query]), not (tree.want_entropy or tree.want_top)
        whole = (len(path) if grows else context) // BLOCK
        names = _chain(path[: whole * BLOCK])
        at = (context - 1) // BLOCK if grows else whole  # the first whole block whose tokens predict the target
        read = 0
        while plain and at < whole:
            known = self.answers.get(_named_rows(names, ids, context, at))
            if not isinstance(known, np.ndarray):
                break
            readout.logprobs[pairs[read : read + len(known)]] = known
            readout.pairs_read += len(known)
            read, at = read + len(known), at + 1
        cache, last = self._trunk(readout, path, names[:at])
        for number in range(at, whole):
            hidden = self._add(readout, path, names, number, cache)[max(0, context - 1 - number * BLOCK) :]
            own = pairs[read : read + len(hidden)]
            self._read(readout, own, hidden)
            read += len(own)
            if plain:
                self.answers.put(_named_rows(names, ids, context, number), readout.logprobs[own].copy(), len(own))
        rows = [last] if context == whole * BLOCK and not grows else []
        for start in range(whole * BLOCK, len(path), _PIECE):
            hidden = self._forward(readout, path[start : start + _PIECE], cache)
            rows.append(hidden[max(0, context - 1 - start) :])
        if rows:
            self._read(readout, pairs[read:], torch.cat(rows))
        self._use(names)

    def _read(self, readout: Readout, pairs: NDArray[np.int64], hidden: Tensor) -> None:
        step = readout.head.chunk_rows
        for low in range(0, len(pairs), step):
            logits = readout.head(hidden[low : low + step])
            readout.take_logits(pairs[low : low + step], logits, np.arange(len(logits)))

    def _trunk(self, readout: Readout, path: Ids, names: list[bytes]) -> tuple[DynamicCache, Tensor]:
        """Return a cache of the blocks of `path` that `names` names, and their last token's hidden state [1, H].

        What is kept is taken, the rest computed and kept. Without a block the state is empty.
        """
        found: list[_Block] = []
        for name in names:
            block = self._trunks.get(name)
            if not isinstance(block, _Block):
                break
            found.append(block)
        cache = _joined(found)
        last = found[-1].last if found else torch.empty(0, device=self._model.device)
        for number in range(len(found), len(names)):
            last = self._add(readout, path, names, number, cache)[-1:]
        return cache, last

    def _add(self, readout: Readout, path: Ids, names: list[bytes], number: int, cache: DynamicCache) -> Tensor:
        """Compute the block `number` of `path` behind `cache`, keep it, return its hidden states [BLOCK, H]."""
        hidden = self._forward(readout, path[number * BLOCK : (number + 1) * BLOCK], cache)
        if (number + 1) * BLOCK <= self._trunks.most:
            block = _Block(tuple(map(_last, cache.layers)), hidden[-1:].clone())
            self._trunks.put(names[number], block, BLOCK)
        return hidden

    def _use(self, names: list[bytes]) -> None:
        """Make room; a trunk's start is the last to leave, as without it the rest is of no use."""
        for name in reversed(names):
            self._trunks.get(name)
        self._trunks.trim()

    def _forward(self, readout: Readout, ids: Ids, cache: DynamicCache) -> Tensor:
        """Return hidden states [n, H] of `ids` behind `cache`, which then holds them, too."""
        fed = torch.as_tensor(ids[None], device=self._model.device).long()
        hidden: Tensor = self._model.base_model(input_ids=fed, past_key_values=cache, use_cache=True)[0][0]
        readout.tokens_computed += len(ids)
        return hidden


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _chain(path: Ids) -> list[bytes]:
    """Return a name for every whole block of `path` that says all that comes before it, too."""
    names: list[bytes] = []
    for start in range(0, len(path), BLOCK):
        names.append(_digest(names[-1] if names else b"", path[start : start + BLOCK].tobytes()))
    return names


def _named_rows(names: list[bytes], ids: Ids, context: int, number: int) -> bytes:
    """Return a name for what block `number` says of the target that begins behind `context` tokens of `ids`."""
    end = (number + 1) * BLOCK
    return _digest(names[number], ids[end : end + 1].tobytes(), str(max(0, context - 1 - number * BLOCK)).encode())


def _joined(blocks: Sequence[_Block]) -> DynamicCache:
    """Return a new cache that holds `blocks`; theirs stay as they are."""
    cache = DynamicCache()
    for layer in range(len(blocks[0].layers) if blocks else 0):
        keys, values = zip(*(block.layers[layer] for block in blocks), strict=True)
        cache.update(torch.cat(keys, dim=2), torch.cat(values, dim=2), layer)
    return cache


def _last(layer: Any) -> tuple[Tensor, Tensor]:
    """Return a layer's newest keys and values."""
    return layer.keys[:, :, -BLOCK:].clone(), layer.values[:, :, -BLOCK:].clone()
