"""Samples many answers at once: one forward a token over fixed places, replayed as a CUDA graph.

A small model spends its time in the launches of its kernels: SmolLM2 has 30 layers. Captured once, a token
costs one launch. The graph reads the weights where they are: an update that copies into them needs no new capture.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StaticCache


class Decoder:
    """A fixed number of rows with room for a prompt and an answer."""

    def __init__(self, model: Any, *, rows: int, prompt: int, answer: int, end: int) -> None:
        """`prompt` and `answer` are the most tokens of each; an answer ends with the token `end`."""
        self._model, self._rows, self._prompt, self._answer, self._end = model, rows, prompt, answer, end
        device, size = model.device, prompt + answer
        self._cache = StaticCache(config=model.config, max_cache_len=size)
        self._token = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._position = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._slot = torch.zeros(1, dtype=torch.long, device=device)
        self._seen = torch.zeros(rows, 1, 1, size, dtype=torch.bool, device=device)
        self._step: Callable[[], Tensor] | None = None

    @torch.no_grad()
    def sample(self, prompts: Sequence[Sequence[int]], temperature: float) -> list[list[int]]:
        """Return an answer a prompt, its end token included where it came. 0 takes the likeliest tokens.

        Raises:
            ValueError: more prompts than rows, or a prompt longer than its room.
        """
        if len(prompts) > self._rows or max(map(len, prompts)) > self._prompt:
            raise ValueError(f"{len(prompts)} prompts of up to {max(map(len, prompts))} tokens do not fit")
        logits = self._prefill([*prompts, *[prompts[0]] * (self._rows - len(prompts))])
        taken = torch.full((self._rows, self._answer), self._end, device=logits.device)
        ended = torch.zeros(self._rows, dtype=torch.bool, device=logits.device)
        for at in range(self._answer):
            chosen = _drawn(logits, temperature)
            taken[:, at] = torch.where(ended, self._end, chosen)
            ended |= chosen == self._end
            if at + 1 == self._answer or (at % 16 == 15 and bool(ended.all())):
                break
            self._token.copy_(taken[:, at : at + 1])
            logits = self._next()
        rows = taken[: len(prompts)].tolist()
        return [row[: row.index(self._end) + 1] if self._end in row else row for row in rows]

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Fill the places of the prompts, each ending at the last one; return the logits after them."""
        ids = torch.full((self._rows, self._prompt), self._end)
        known = torch.zeros(self._rows, self._prompt, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, self._prompt - len(prompt) :] = torch.tensor(prompt)
            known[row, self._prompt - len(prompt) :] = True
        ids, known = ids.to(self._token.device), known.to(self._token.device)
        positions = (known.cumsum(1) - 1).clamp(min=0)
        size = self._prompt + self._answer
        own = torch.eye(self._prompt, dtype=torch.bool, device=ids.device)
        before = torch.tril(torch.ones_like(own))
        mask = torch.zeros(self._rows, 1, self._prompt, size, dtype=torch.bool, device=ids.device)
        mask[..., : self._prompt] = (before & known[:, None, None, :]) | own  # nothing at all to see gives NaN
        self._cache.reset()
        logits = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        self._seen.zero_()
        self._seen[:, 0, 0, : self._prompt] = known
        self._position.copy_(positions[:, -1:])
        self._slot.fill_(self._prompt - 1)
        return logits

    def _forward(self) -> Tensor:
        self._position.add_(1)
        self._slot.add_(1)
        self._seen.index_fill_(3, self._slot, True)
        return self._model(
            input_ids=self._token,
            attention_mask=self._seen,
            position_ids=self._position,
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]

    def _next(self) -> Tensor:
        if self._step is None:
            self._step = self._captured() if self._token.is_cuda else self._forward
        return self._step()

    def _captured(self) -> Callable[[], Tensor]:
        """Capture a step; what the trial runs and the capture count up is put back."""
        kept = [each.clone() for each in (self._position, self._slot, self._seen)]
        lengths = [layer.cumulative_length.clone() for layer in self._cache.layers]

        def restore() -> None:
            for each, value in zip((self._position, self._slot, self._seen), kept, strict=True):
                each.copy_(value)
            for layer, value in zip(self._cache.layers, lengths, strict=True):
                layer.cumulative_length.copy_(value)

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._forward()
                restore()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                logits = self._forward()
        except RuntimeError as error:
            print(f"no CUDA graph, each token launches its kernels: {error}", file=sys.stderr)
            torch.cuda.synchronize()
            restore()
            return self._forward
        restore()

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay


def _drawn(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / temperature).softmax(-1)
    return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(-1)
