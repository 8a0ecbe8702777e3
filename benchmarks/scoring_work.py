"""What the scoring benchmark measures: random models of given shapes, contexts to price, FLOPs, and two baselines.

Knows nothing of clocks and reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers

from opera_service.engines.torch.loading import LoadedModel
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder

Context = tuple[np.ndarray, int]
"""Context + target ids, and how many of them are context."""

SHAPES = {
    # layers, hidden, heads, key heads, head size, feed-forward, vocabulary
    "tiny": (2, 32, 4, 2, 8, 64, 512),
    "small": (6, 256, 2, 1, 64, 1024, 8192),
    "wide": (4, 384, 6, 2, 64, 1024, 32768),
    "8b": (36, 4096, 32, 8, 128, 12288, 151936),
}
PROMPT = 128
"""Tokens of every prompt."""


def make_model(shape: str, device: str) -> LoadedModel:
    """Return a random Qwen3 of a shape: float32 on a CPU, bfloat16 on a GPU."""
    layers, hidden, heads, key_heads, head, inner, vocab = SHAPES[shape]
    config = transformers.Qwen3Config(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=head,
        intermediate_size=inner,
        vocab_size=vocab,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16 if device == "cuda" else torch.float32)
    with torch.device(device):
        model = transformers.Qwen3ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return LoadedModel.of(model, name=shape)


def group_contexts(shape: Sequence[int], vocab: int) -> list[list[Context]]:
    """Return, per response, initial + boundaries + full, each with the reference."""
    responses, boundaries, length, reference = shape
    rng = np.random.default_rng(list(shape))
    prompt, target = rng.integers(0, vocab, PROMPT), rng.integers(0, vocab, reference)
    groups = []
    for _ in range(responses):
        response = rng.integers(0, vocab, length)
        inner = np.sort(rng.choice(np.arange(1, length), boundaries, replace=False))
        groups.append(
            [(np.concatenate([prompt, response[:cut], target]), PROMPT + int(cut)) for cut in (0, *inner, length)]
        )
    return groups


def ranking_contexts(branches: int, prefix: int, vocab: int) -> list[Context]:
    """Return candidates of 32 to 256 tokens after one prefix."""
    rng = np.random.default_rng(5)
    shared = rng.integers(0, vocab, prefix)
    sizes = rng.integers(32, 257, branches)
    return [(np.concatenate([shared, rng.integers(0, vocab, size)]), prefix) for size in sizes]


def make_tree(contexts: Sequence[Context]) -> TokenTree:
    builder = TreeBuilder()
    for ids, context in contexts:
        builder.score(builder.extend(ROOT, ids[:context]), ids[context:])
    return builder.build()


class Flops:
    """Exact multiply-adds (times two) of a model's shape; norms and rotations are left out."""

    def __init__(self, shape: str) -> None:
        layers, hidden, heads, key_heads, head, inner, vocab = SHAPES[shape]
        self._linear = 2 * layers * hidden * (head * (2 * heads + 2 * key_heads) + 3 * inner)
        self._attention = 4 * layers * heads * head
        self.head = 2 * hidden * vocab

    def tokens(self, positions: np.ndarray) -> float:
        """FLOPs of layers for tokens at `positions`, each seeing its whole past."""
        return float(self._linear * len(positions) + self._attention * (positions + 1.0).sum())

    def contexts(self, contexts: Sequence[Context], *, head_everywhere: bool) -> float:
        total = 0.0
        for ids, context in contexts:
            total += self.tokens(np.arange(len(ids)))
            total += self.head * (len(ids) if head_everywhere else len(ids) - context)
        return total

    def tree(self, tree: TokenTree) -> float:
        return self.tokens(tree.positions) + self.head * len(np.unique(tree.rows))


# --- the baselines ---------------------------------------------------------------------------------------


def authors_way(model: Any, batch: Sequence[Context]) -> None:
    """Score one micro-batch as the released code does."""
    ids, mask = right_padded(batch, model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    for row, (path, context) in enumerate(batch):
        logprobs[row, context - 1 : len(path) - 1].gather(1, ids[row, context : len(path), None]).cpu()


def fair_baseline(model: Any, batch: Sequence[Context], chunk: int) -> None:
    """Score one length-sorted batch without a mask, with logits of scored rows only, in chunks."""
    ids, _ = right_padded(batch, model.device)
    hidden = model.model(input_ids=ids, use_cache=False)[0]
    rows = torch.cat([hidden[row, context - 1 : len(path) - 1] for row, (path, context) in enumerate(batch)])
    targets = torch.cat([ids[row, context : len(path)] for row, (path, context) in enumerate(batch)])
    for low in range(0, len(rows), chunk):
        logits = model.lm_head(rows[low : low + chunk])
        torch.log_softmax(logits, dim=-1, dtype=torch.float32).gather(1, targets[low : low + chunk, None]).cpu()


def right_padded(batch: Sequence[Context], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(ids) for ids, _ in batch)
    ids = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, (path, _) in enumerate(batch):
        ids[row, : len(path)], mask[row, : len(path)] = path, 1
    return torch.as_tensor(ids, device=device), torch.as_tensor(mask, device=device)


def micro_batches(contexts: Sequence[Context], size: int = 4) -> list[list[Context]]:
    return [list(contexts[low : low + size]) for low in range(0, len(contexts), size)]


def budget_batches(contexts: Sequence[Context], budget: int) -> list[list[Context]]:
    batches: list[list[Context]] = []
    for context in sorted(contexts, key=lambda each: -len(each[0])):
        if batches and len(batches[-1][0][0]) * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(context)
        else:
            batches.append([context])
    return batches


def spread(batches: list[list[Context]], limit: int, phase: float) -> list[list[Context]]:
    """Return all batches, or evenly spread ones that hold about `limit` tokens, shifted by `phase` of a stride."""
    tokens = sum(len(ids) for batch in batches for ids, _ in batch)
    stride = min(max(1.0, tokens / limit), len(batches))
    return [batches[int((number + phase) * stride)] for number in range(int(len(batches) / stride))]
