"""Spares the last layer's feed-forward network the tokens that nobody reads.

Keys and values of the last layer serve every later token, but its feed-forward output only reaches the
log-probabilities of its own token, and most tokens of a response are context, not scored. Knows layers by
transformers' names; where a last layer is built otherwise (a mixture of experts, say), it computes all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel


def feed_forward(model: PreTrainedModel) -> torch.nn.Module | None:
    """Return the last layer's dense feed-forward module, which treats tokens one by one; None if there is none."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList) or not len(layers):
        return None
    module = getattr(layers[-1], "mlp", None)
    # Routers of experts and recurrent mixers have other names; what this one promises is checked with numbers
    # when a route is chosen.
    dense = isinstance(module, torch.nn.Module) and type(module).__name__.endswith("MLP")
    return module if dense else None


@contextmanager
def computing_only(module: torch.nn.Module | None, rows: Tensor, tokens: int) -> Iterator[None]:
    """Let `module` compute tokens `rows` (int64[n]) of its input [1, tokens, H]; the others' output is zero."""
    if module is None or len(rows) == tokens:
        yield
        return

    def select(_: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].index_select(1, rows),)

    def spread(_: torch.nn.Module, __: tuple[Tensor], output: Tensor) -> Tensor:
        return output.new_zeros(1, tokens, output.shape[2]).index_copy_(1, rows, output)

    hooks = [module.register_forward_pre_hook(select), module.register_forward_hook(spread)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
