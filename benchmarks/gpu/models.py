"""Random models for a GPU run, and the work they get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import transformers

from opera_service.engines.torch.loading import LoadedModel
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder


@contextmanager
def made_as(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    """Let models come into being in a dtype and on a device.

    A model that is cast afterwards would have its rotary frequencies cast, too.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


class Twins:
    """The same weights in several precisions: bfloat16 values, so that only the arithmetic differs."""

    def __init__(self, config: transformers.PretrainedConfig, device: torch.device) -> None:
        self._config, self._device = config, device
        torch.manual_seed(0)
        with made_as(torch.bfloat16, device):
            self._weights = transformers.AutoModelForCausalLM.from_config(config).state_dict()

    def of(self, dtype: torch.dtype) -> LoadedModel:
        with made_as(dtype, self._device):
            model: Any = transformers.AutoModelForCausalLM.from_config(self._config, dtype=dtype)
        model.load_state_dict(self._weights)
        return LoadedModel.of(model, name=str(dtype).removeprefix("torch."))


def ragged_tree(vocab: int, length: int, seed: int) -> TokenTree:
    """Return a tree with every kind of branch.

    Responses of different lengths on one prompt, boundaries at 1 and at the end, targets of one and of many
    tokens, a branch on a branch.
    """
    rng = np.random.default_rng(seed)
    builder = TreeBuilder()
    prompt = builder.extend(ROOT, rng.integers(0, vocab, max(1, length // 8)))
    builder.score(builder.extend(ROOT, rng.integers(0, vocab, 1)), rng.integers(0, vocab, 5))
    targets = [rng.integers(0, vocab, count) for count in (max(3, length // 28), 1, max(2, length // 100))]
    for share, target in zip((1.0, 0.7, 0.31), targets, strict=True):
        response = rng.integers(0, vocab, max(4, int(share * length)))
        for cut in (1, *sorted(rng.integers(2, len(response), 5)), len(response)):
            builder.score(builder.extend(prompt, response[:cut]), target)
        aside = builder.extend(builder.extend(prompt, response[: len(response) // 2]), rng.integers(0, vocab, 9))
        builder.score(aside, targets[0])
    return builder.build()
