"""What a loaded model is asked before it is trusted: numbers on small trees that cross every length it names.

A configuration promises; attention that begins to behave otherwise behind some length (a window, a sparse index,
rotary factors for long contexts) shows only there. Knows no routes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from transformers import PreTrainedModel

from opera_client.errors import EngineFailed, NotSupported
from opera_service.engines.torch.loading import LoadedModel
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

SHORT = 24
"""Tokens of the trunk where no length is to be crossed."""
_BEHIND = 8
"""Tokens that the trunk goes past a length."""
_WORK = {"cpu": 2e13, "cuda": 2e16}
"""Floating point operations that a start may take for this: a minute or so."""
_LENGTH = re.compile(
    r"window|chunk_size|original_max_position|index_topk|local_attention|sparse_block|topk_tokens"
)
_CHANGES = ("longrope", "dynamic")
"""Rotary embeddings whose factors follow the longest sequence of a forward."""


def critical_lengths(loaded: LoadedModel) -> list[int]:
    """Return the lengths within the context, ascending, behind which the configuration says things change."""
    config = loaded.model.config.get_text_config().to_dict()
    unused = config.get("use_sliding_window") is False
    found = {
        value
        for name, value in _numbers(config)
        if _LENGTH.search(name) and 1 < value < loaded.max_context - _BEHIND and not (unused and "window" in name)
    }
    return sorted(found)


def affordable(loaded: LoadedModel) -> int:
    """Return how long a trunk may be so that probing it stays within a minute or so."""
    parameters = sum(weight.numel() for weight in loaded.model.parameters())
    work = _WORK.get(loaded.device.type, _WORK["cpu"])
    return max(SHORT, int(work / (8 * max(parameters, 1))))


def follows_longest(loaded: LoadedModel) -> bool:
    """Whether the configuration says that rotary factors depend on the longest sequence of a forward."""
    config = loaded.model.config.get_text_config().to_dict()
    return any(value in _CHANGES for name, value in _texts(config) if name in ("rope_type", "type"))


def probe_tree(vocab: int, length: int) -> TokenTree:
    """Return a small tree of fixed pseudo-random ids with branches at several depths and a branch on a branch.

    Two branches are one token apart: some recurrences take a single token in another way than several.
    """
    rng = np.random.default_rng(20)
    trunk, branch, target = (rng.integers(0, vocab, count) for count in (length, 5, 4))
    builder = TreeBuilder()
    for cut in (1, length // 3, length // 2, length // 2 + 1, length):
        builder.score(builder.extend(ROOT, trunk[:cut]), target)
    side = builder.extend(builder.extend(ROOT, trunk[: length // 2]), branch)
    builder.score(side, target)
    builder.score(builder.extend(ROOT, trunk[:-2]), trunk[-2:])
    return builder.build()


def crossing_tree(vocab: int, lengths: list[int]) -> TokenTree:
    """Return a tree with a context before and a context behind each of `lengths`, and a branch off the trunk."""
    rng = np.random.default_rng(21)
    trunk, branch, target = (rng.integers(0, vocab, count) for count in (lengths[-1] + _BEHIND, 5, 4))
    builder = TreeBuilder()
    for cut in sorted({max(1, lengths[0] // 2), *(length + _BEHIND for length in lengths)}):
        builder.score(builder.extend(ROOT, trunk[:cut]), target)
    builder.score(builder.extend(builder.extend(ROOT, trunk[: lengths[-1] + 2]), branch), target)
    return builder.build()


def must_be_causal(loaded: LoadedModel) -> None:
    """Raise `NotSupported` when a token changes what the model says before it, as in encoders."""
    ids = np.random.default_rng(22).integers(0, loaded.vocab_size, min(SHORT, max(2, loaded.max_context - 1)))
    other = ids.copy()
    other[-1] = (other[-1] + 1) % loaded.vocab_size
    first, second = (_logits(loaded.model, each)[:-1] for each in (ids, other))
    if not bool(torch.isfinite(first).all()):
        raise EngineFailed(f"the log-probabilities of {loaded.name} are not finite; check its weights and --dtype")
    apart = float((first - second).abs().max()) if len(first) else 0.0
    scale = float(first.abs().max()) if len(first) else 0.0
    if not apart <= 0.02 * max(scale, 1e-3):
        raise NotSupported(
            f"{loaded.name} is no causal language model: its last token changes what it says before it (by"
            f" {apart:.2g} of {scale:.2g}). Serve a decoder, or one whose configuration says is_decoder"
        )


def _logits(model: PreTrainedModel, ids: np.ndarray) -> torch.Tensor:
    device = model.device
    logits: torch.Tensor = model(input_ids=torch.as_tensor(ids[None], device=device), use_cache=False).logits
    return logits[0].float()


def _numbers(config: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield str(name), value


def _texts(config: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _texts(value)
        elif isinstance(value, str):
            yield str(name), value
