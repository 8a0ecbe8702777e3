"""How scored rows are read in vLLM's worker process: chunk by chunk, with entropies, for the requests that say so.

vLLM has two model runners. V1 reads every row of a step at once, so its code is replaced for our requests; V2
reads chunks, and what it asks for logits is overheard. Both return top log-probs alone: the last of them, which a
request asks for in addition, is overwritten with the row's entropy. Other requests are served as before.

Relies on the internals of vLLM 0.32; the probe at the start finds out when they have moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from vllm.v1.outputs import LogprobsTensors

from opera_service.engines.chunks import chunk_rows

FIRST = "opera_rows"
"""Key of a request's `extra_args`: index of the first row that is read, whether or not the cache is."""
ENTROPY = "opera_entropy"
"""Key of a request's `extra_args`: its last top log-prob is to be the row's entropy."""


def entropy_of(logprobs: Tensor) -> Tensor:
    """Return the entropies in nats, [n], of distributions given by their log-probs, [n, V]."""
    entropy: Tensor = torch.special.entr(logprobs.exp()).sum(dim=-1)
    return entropy


def install(runner: Any) -> None:
    """Let a worker's model runner read rows so."""
    if hasattr(runner, "prompt_logprobs_worker"):
        if runner.prompt_logprobs_worker is not None:  # only the last stage of a pipeline has logits
            Overheard(runner.prompt_logprobs_worker)
    else:
        _Reader(runner)


class _Reader:
    """Reads our requests' rows on the V1 runner."""

    def __init__(self, runner: Any) -> None:
        self._runner, self._theirs = runner, runner._get_prompt_logprobs_dict  # noqa: SLF001  vLLM's own
        self._rows = chunk_rows(runner.device.type, runner.model_config.get_vocab_size())
        runner._get_prompt_logprobs_dict = self.read  # noqa: SLF001

    def read(self, hidden: Tensor, scheduled: dict[str, int]) -> dict[str, LogprobsTensors | None]:
        """Return the rows of every prompt that this step ends; read those that it computed."""
        runner, every = self._runner, self._runner.num_prompt_logprobs
        ours = [name for name in every if FIRST in _said(runner.requests[name].sampling_params)]
        widths = {name: every.pop(name) for name in ours}
        found: dict[str, LogprobsTensors | None] = self._theirs(hidden, scheduled)
        for name, width in widths.items():
            # Without tokens in this step it was preempted, and starts again.
            if name in scheduled and self._take(name, width, hidden, scheduled[name]):
                request = runner.requests[name]
                found[name], request.in_progress_prompt_logprobs_cpu = (
                    request.in_progress_prompt_logprobs_cpu,
                    None,
                )
            else:
                every[name] = width
        return found

    def _take(self, name: str, top: int, hidden: Tensor, computed: int) -> bool:
        """Read the wanted rows among the `computed` tokens of this step; return whether the prompt ends here."""
        runner, request = self._runner, self._runner.requests[name]
        ids, said = request.prompt_token_ids, _said(request.sampling_params)
        first, count = said[FIRST], len(ids) - 1
        rows = request.in_progress_prompt_logprobs_cpu
        if rows is None:
            rows = request.in_progress_prompt_logprobs_cpu = _unread(count - first, top + 1)
        began = request.num_computed_tokens
        behind = runner.query_start_loc.np[runner.input_batch.req_id_to_index[name]].item() - began
        end = min(began + computed, count)
        for low in range(max(began, first), end, self._rows):
            high = min(low + self._rows, end)
            logits = runner.model.compute_logits(hidden[behind + low : behind + high])
            targets = torch.tensor(ids[low + 1 : high + 1], device=logits.device)
            place = slice(low - first, high - first)
            _read(logits, targets, rows, place, entropy=ENTROPY in said)
        return bool(began + computed > count)


def _read(logits: Tensor, targets: Tensor, rows: LogprobsTensors, place: slice, *, entropy: bool) -> None:
    every = logits.log_softmax(dim=-1, dtype=torch.float32)
    width = rows.logprobs.shape[1]
    best = every.topk(width - 1, dim=-1)
    rows.logprob_token_ids[place] = torch.cat([targets[:, None], best.indices], dim=1).to("cpu", torch.int32)
    rows.logprobs[place] = torch.cat([every.gather(-1, targets[:, None]), best.values], dim=1).cpu()
    if entropy:
        rows.logprobs[place, -1] = entropy_of(every).cpu()


def _unread(count: int, width: int) -> LogprobsTensors:
    """Return rows that belong to no token, so that one nobody reads is missed."""
    return LogprobsTensors(
        torch.full((count, width), -1, dtype=torch.int32),
        torch.full((count, width), torch.nan),
        torch.zeros(count, dtype=torch.int32),
    )


class Overheard:
    """Computes entropies from the logits that the V2 runner's reader asks for."""

    def __init__(self, reader: Any) -> None:
        self._reader, self._compute, self._add = reader, reader.compute_prompt_logprobs, reader.add_request
        self._remove, self._wanted = reader.remove_request, set[str]()
        reader.compute_prompt_logprobs, reader.add_request = self.compute, self.add
        reader.remove_request = self.remove

    def add(self, name: str, index: int, params: Any) -> None:
        """Note a request that wants entropies."""
        if ENTROPY in _said(params):
            self._wanted.add(name)
        self._add(name, index, params)

    def remove(self, name: str) -> None:
        self._wanted.discard(name)
        self._remove(name)

    def compute(
        self, logits_of: Callable[[Tensor], Tensor], hidden: Tensor, batch: Any, *rest: Any
    ) -> dict[str, LogprobsTensors]:
        """Return what the reader does, its last column overwritten where entropies are wanted."""
        heard: list[Tensor] = []

        def overheard(some: Tensor) -> Tensor:
            logits = logits_of(some)
            few = chunk_rows(logits.device.type, logits.shape[-1])
            parts = torch.split(logits, few)
            heard.extend(entropy_of(part.log_softmax(dim=-1, dtype=torch.float32)) for part in parts)
            return logits

        wanted = [name in self._wanted for name in batch.req_ids]
        found: dict[str, LogprobsTensors] = self._compute(
            overheard if any(wanted) else logits_of, hidden, batch, *rest
        )
        if not heard:
            return found
        entropies = torch.cat(heard)  # it reads all tokens of the batch, in order
        for at, name in enumerate(batch.req_ids):
            start, end = batch.query_start_loc_np[at : at + 2]
            going_on = self._reader.in_progress_prompt_logprobs.get(name)
            if not wanted[at]:
                continue
            if name in found and end - start > 1:  # the last token of a prompt predicts none of it
                found[name].logprobs[1 - (end - start) :, -1] = entropies[start : end - 1]
            elif name not in found and going_on:
                going_on[-1].logprobs[:, -1] = entropies[start:end]
        return found


def _said(params: Any) -> dict[str, Any]:
    return getattr(params, "extra_args", None) or {}
