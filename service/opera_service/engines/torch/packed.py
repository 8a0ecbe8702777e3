"""Packed routes: all tokens of a packed batch in one forward, each distinct token once.

Registers one attention function with transformers; a route supplies how a step attends. Packed batches over the
token budget go step by step, keeping the keys and values of the tokens that later branches still see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from opera_client.errors import NotSupported
from opera_service.engines.torch.last_layer import computing_only, feed_forward
from opera_service.engines.torch.packed_batch import Step, plan_steps
from opera_service.engines.torch.readout import Readout
from opera_service.scoring.tree import TokenTree

_NAME = "opera_tree"
_UNKNOWN = ("softcap", "s_aux", "position_bias", "sinks", "head_mask", "attention_chunk_size", "indices")
"""Extras that some architectures add to their attention; a packed route must not ignore them."""


class StepAttention:
    """How the queries of one step attend to its keys; subclasses compute one layer."""

    def __init__(self, tree: TokenTree, step: Step, read: NDArray[np.int64]) -> None:
        self.tree = tree
        self.step = step
        self.read = read

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, *, last: bool
    ) -> Tensor:
        """Return [1, t, H, D] for query [1, H, t, D] and key, value [1, Hkv, slots, D].

        `window` is the sliding window of the layer: a query sees the keys less than that many positions back. In
        the `last` layer only the queries `read` (ascending places in the step) matter; the others may return any
        finite numbers.
        """
        raise NotImplementedError


class PackedRoute:
    """Base of the packed routes; subclasses name themselves and their step attention."""

    name: ClassVar[str]
    attention: ClassVar[type[StepAttention]]

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.windows: set[int] = set()
        """Sliding windows that layers have handed to their attention so far."""

    def run(self, readout: Readout, max_tokens: int) -> None:
        """Feed the batch in steps of at most `max_tokens` tokens."""
        tree = readout.tree
        cache = _KeptKeys()
        last = feed_forward(self._model)
        with attention_implementation(self._model, _NAME):
            for step in plan_steps(tree, max_tokens):
                span = slice(step.start, step.stop)
                ids, positions = (
                    torch.as_tensor(each[None, span], device=self._model.device).long()
                    for each in (tree.tokens, tree.positions)
                )
                read = readout.rows_between(step.start, step.stop)
                rows = torch.as_tensor(read, device=self._model.device)
                with computing_only(last, rows, step.num_tokens):
                    hidden = self._model.base_model(
                        input_ids=ids,
                        position_ids=positions,
                        use_cache=False,
                        opera_step=(self.attention(tree, step, read), cache),
                    )[0]
                readout.tokens_computed += step.num_tokens
                readout.take_hidden(step.start, hidden[0])
        self.windows |= cache.windows


class _KeptKeys:
    """Keys and values per layer of the tokens that steps to come will see."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.windows: set[int] = set()

    def extend(self, layer: int, step: Step, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the step's slots (kept, then own) and remember those needed later."""
        if len(step.kept):
            past_key, past_value = self._layers[layer]
            key, value = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
        if len(step.keep):
            keep = torch.as_tensor(step.keep, device=key.device)
            self._layers[layer] = key.index_select(2, keep), value.index_select(2, keep)
        return key, value


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    opera_step: tuple[StepAttention, _KeptKeys] | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """Answer transformers' attention call for a packed step; refuses what it would have to ignore."""
    layer = getattr(module, "layer_idx", None)
    strange = [name for name in _UNKNOWN if extra.get(name) is not None]
    if opera_step is None or layer is None or strange or attention_mask is not None or key.shape[0] != 1:
        raise NotSupported(
            f"{type(module).__name__} cannot be packed ({', '.join(strange) or 'its attention takes no step'});"
            " use --route kv_fork"
        )
    attention, cache = opera_step
    cache.windows |= set() if sliding_window is None else {sliding_window}
    key, value = cache.extend(layer, attention.step, key, value)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    last = layer == module.config.num_hidden_layers - 1
    return attention.attend(query, key, value, scale, sliding_window, last=last), None


AttentionInterface.register(_NAME, _attend)


@contextmanager
def attention_implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Run the model with another attention function; the old one comes back whatever happens."""
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        if model.config._attn_implementation != name:
            raise NotSupported(f"{type(model).__name__} has its attention built in; use --route kv_fork")
        yield
    finally:
        model.set_attn_implementation(before)
