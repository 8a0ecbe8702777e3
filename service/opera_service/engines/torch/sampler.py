"""Samples continuations with the model's own cache, a batch at a time.

Each continuation has its own random stream, made of (seed, its number), so that it does not depend on what else
is in the batch and no global generator is touched. Knows no tokenizer: ids in, ids out.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opera_client.errors import ContextTooLong, EmptyContext, EngineFailed, InvalidRequest, TokenOutOfVocabulary
from opera_service.engines.base import Generation, GenerationRequest
from opera_service.engines.torch.kv_fork import Past, past_of
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.routes import is_packable
from opera_service.scoring.tree import as_ids


@dataclass
class _Row:
    """One continuation in the making."""

    request: GenerationRequest
    stops: frozenset[int]
    limit: int
    random: np.random.Generator
    ids: list[int] = field(default_factory=list)
    finish: Literal["stop", "length", "enough"] | None = None

    def take(self, token: int) -> None:
        """Append `token`, and end where it ends."""
        self.ids.append(token)
        if token in self.stops:
            self.finish = "stop"
        elif len(self.ids) >= self.limit:
            self.finish = "length"
        elif self.request.enough is not None and self.request.enough(self.ids):
            self.finish = "enough"

    def generation(self) -> Generation:
        return Generation(as_ids(self.ids), self.finish or "length")


class Sampler:
    """Batched sampling on one model. Synchronous; runs on the device thread."""

    def __init__(self, loaded: LoadedModel, max_batch_tokens: int) -> None:
        self._loaded = loaded
        self._max_batch_tokens = max_batch_tokens
        self._eos = _eos_ids(loaded)
        # Left padding is only invisible to attention; recurrent layers need prompts of one length.
        self._pads = is_packable(loaded)
        keeps = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if keeps else {}

    def generate(self, requests: Sequence[GenerationRequest]) -> list[list[Generation]]:
        """Return `n` continuations per request, in order.

        A continuation ends after `max_tokens`, at the model's length, or with the first stop or end-of-text id.
        Raises `EmptyContext`, `TokenOutOfVocabulary`, `ContextTooLong` or `InvalidRequest` before sampling.
        """
        rows = [self._rows(request) for request in requests]
        for batch in self._batches(requests):
            with torch.inference_mode():
                self._run(
                    [rows[index][some] for index, some in batch],
                    [requests[index].prompt_ids for index, _ in batch],
                )
        return [[row.generation() for row in group] for group in rows]

    def _rows(self, request: GenerationRequest) -> list[_Row]:
        prompt, vocab = request.prompt_ids, self._loaded.vocab_size
        if len(prompt) == 0:
            raise EmptyContext("a prompt needs at least one token", field="prompt")
        if int(prompt.min()) < 0 or int(prompt.max()) >= vocab:
            raise TokenOutOfVocabulary(
                f"prompt ids must be 0 to {vocab - 1}; use this model's tokenizer", field="prompt"
            )
        if len(prompt) >= self._loaded.max_context:
            raise ContextTooLong(
                f"a prompt of {len(prompt)} tokens leaves no room in a model of {self._loaded.max_context}",
                field="prompt",
            )
        for name, good in (
            ("n", request.n >= 1),
            ("max_tokens", request.max_tokens >= 1),
            ("temperature", request.temperature >= 0),
            ("top_p", 0 < request.top_p <= 1),
            ("top_k", request.top_k >= 0),
            ("seed", request.seed is None or request.seed >= 0),
        ):
            if not good:
                raise InvalidRequest(f"{name} {getattr(request, name)} is out of range", field=name)
        limit = min(request.max_tokens, self._loaded.max_context - len(prompt))
        seeds = [None if request.seed is None else [request.seed, number] for number in range(request.n)]
        stops = frozenset(request.stop_ids) | self._eos
        return [_Row(request, stops, limit, np.random.default_rng(seed)) for seed in seeds]

    def _batches(self, requests: Sequence[GenerationRequest]) -> list[list[tuple[int, slice]]]:
        """Group rows, given by request and number, whose final tokens fit the budget together (one at least).

        Prompts of similar length come side by side.
        """
        batches: list[list[tuple[int, slice]]] = []
        used = longest = 0
        for index in sorted(range(len(requests)), key=lambda index: len(requests[index].prompt_ids)):
            request = requests[index]
            length = len(request.prompt_ids)
            each = length + request.max_tokens
            count = max(1, self._max_batch_tokens // each)
            for first in range(0, request.n, count):
                some = slice(first, min(first + count, request.n))
                size = (some.stop - first) * each
                if batches and used + size <= self._max_batch_tokens and (self._pads or length == longest):
                    batches[-1].append((index, some))
                    used += size
                else:
                    batches.append([(index, some)])
                    used, longest = size, length
        return batches

    def _run(self, groups: list[list[_Row]], prompts: list[NDArray[np.int32]]) -> None:
        """Sample all rows of a batch to their ends; every prompt is read once, however many rows continue it."""
        model, device = self._loaded.model, self._loaded.device
        width = max(len(prompt) for prompt in prompts)
        ids = np.zeros((len(prompts), width), dtype=np.int64)
        mask = np.zeros((len(prompts), width), dtype=np.int64)
        for number, prompt in enumerate(prompts):
            ids[number, width - len(prompt) :] = prompt
            mask[number, width - len(prompt) :] = 1
        seen = torch.as_tensor(mask, device=device)
        padded = bool((mask == 0).any())
        extra = {"attention_mask": seen, "position_ids": (seen.cumsum(1) - 1).clamp_min(0)} if padded else {}
        answer = model(input_ids=torch.as_tensor(ids, device=device), use_cache=True, **self._last_only, **extra)
        logits, past = answer.logits[:, -1], past_of(answer)
        rows = [row for group in groups for row in group]
        source = torch.as_tensor([number for number, group in enumerate(groups) for _ in group], device=device)
        logits, seen = logits[source], seen[source]
        _select(past, source)
        while True:
            chosen = choose(logits, rows)
            for row, token in zip(rows, chosen, strict=True):
                row.take(token)
            alive = [number for number, row in enumerate(rows) if row.finish is None]
            if not alive:
                return
            if len(alive) < len(rows):
                index = torch.as_tensor(alive, device=device)
                rows, seen = [rows[number] for number in alive], seen[index]
                _select(past, index)
            seen = torch.cat([seen, seen.new_ones(len(rows), 1)], dim=1)
            extra = {"attention_mask": seen, "position_ids": seen.sum(1, keepdim=True) - 1} if padded else {}
            last = torch.as_tensor([[row.ids[-1]] for row in rows], device=device)
            answer = model(input_ids=last, use_cache=True, **past, **extra)
            logits, past = answer.logits[:, -1], past_of(answer)


def _select(past: Past, rows: Tensor) -> None:
    """Keep these rows of a cache, in this order; a row may come more than once."""
    for cache in {id(cache): cache for cache in past.values()}.values():  # one cache may have two names
        cache.reorder_cache(rows)


def choose(logits: Tensor, rows: Sequence[_Row]) -> list[int]:
    """Pick one token a row from logits [n, V]: greedy at temperature 0, else by inverse transform sampling."""
    if not bool(torch.isfinite(logits).any(dim=-1).all()) or bool(torch.isnan(logits).any()):
        raise EngineFailed("the model gave logits that are not finite; use --dtype float32 or check the weights")
    greedy = logits.argmax(dim=-1).tolist()
    hot = [number for number, row in enumerate(rows) if row.request.temperature > 0]
    if not hot:
        return [int(token) for token in greedy]
    requests = [rows[number].request for number in hot]
    heat = torch.tensor([[request.temperature] for request in requests], dtype=torch.float64)
    ordered, tokens = (logits[hot].double().cpu() / heat).sort(dim=-1, descending=True, stable=True)
    weights = torch.softmax(ordered, dim=-1)
    before = weights.cumsum(dim=-1) - weights
    top_p = torch.tensor([[request.top_p] for request in requests], dtype=torch.float64)
    top_k = torch.tensor([[request.top_k or logits.shape[-1]] for request in requests])
    rank = torch.arange(logits.shape[-1])[None]
    weights = weights.masked_fill((before >= top_p) | (rank >= top_k), 0.0)
    ladder = weights.cumsum(dim=-1)
    draws = torch.tensor([[rows[number].random.random()] for number in hot], dtype=torch.float64)
    place = torch.searchsorted(ladder, draws * ladder[:, -1:], right=True)
    # Rounding must not step past the last token that was kept.
    place = torch.minimum(place, (weights > 0).sum(dim=-1, keepdim=True) - 1)
    for number, token in zip(hot, tokens.gather(1, place)[:, 0].tolist(), strict=True):
        greedy[number] = token
    return [int(token) for token in greedy]


def _eos_ids(loaded: LoadedModel) -> frozenset[int]:
    found: set[int] = set()
    for config in (getattr(loaded.model, "generation_config", None), loaded.model.config.get_text_config()):
        ids = getattr(config, "eos_token_id", None)
        if ids is not None:
            found |= {ids} if isinstance(ids, int) else set(ids)
    return frozenset(found)
