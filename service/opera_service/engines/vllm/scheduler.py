"""The scheduler that vLLM's EngineCore runs for us: prefix-cache hits stop just before the first scored row.

Left alone, vLLM skips the whole cache for a prompt whose log-probabilities are wanted, or, told to read it,
serves rows it never computed. Runs in the EngineCore process; knows only what travels in `SamplingParams`.
Written against vLLM 0.32; the engine's start-up probe notices when the internals used here move.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.outputs import LogprobsTensors

FIRST_ROW = "opera_first_row"
"""Key of `SamplingParams.extra_args`: index of the first prompt token whose next-token row is read."""


def first_row(request: Any) -> int | None:
    """Return the first scored row of a vLLM request, None for one that scores nothing."""
    params = request.sampling_params
    extra = params.extra_args if params is not None else None
    return None if extra is None else extra.get(FIRST_ROW)


class ScoreScheduler(AsyncScheduler):  # type: ignore[misc]
    """vLLM's asynchronous scheduler, exact for prompts that are scored from the prefix cache."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cache = self.kv_cache_manager
        lookup, longest_hit = cache.get_computed_blocks, cache.coordinator.find_longest_cache_hit
        limit: int | None = None

        def capped_lookup(request: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal limit
            limit = first_row(request)
            try:
                return lookup(request, *args, **kwargs)
            finally:
                limit = None

        def capped_hit(hashes: Any, max_length: int, *args: Any, **kwargs: Any) -> Any:
            return longest_hit(hashes, max_length if limit is None else min(max_length, limit), *args, **kwargs)

        cache.get_computed_blocks = capped_lookup
        cache.coordinator.find_longest_cache_hit = capped_hit

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Send on scored rows only, so that neither unwritten rows nor 32k-token prompts leave this process."""
        found = model_runner_output.prompt_logprobs_dict
        for name in list(found):
            request = self.requests.get(name)
            row = None if request is None else first_row(request)
            if row is not None and found[name] is not None:
                self._keep_scored(model_runner_output, request, row)
        return super().update_from_output(scheduler_output, model_runner_output)

    def _keep_scored(self, output: Any, request: Any, row: int) -> None:
        """Replace a prompt's rows by the scored tail; by nothing when a row belongs to another token."""
        rows = output.prompt_logprobs_dict.pop(request.request_id)
        wanted = torch.tensor(request.prompt_token_ids[row + 1 :])
        # V1 returns a row for every prompt token, V2 one for every token it computed: both end with ours.
        ids, logprobs = rows.logprob_token_ids[-len(wanted) :], rows.logprobs[-len(wanted) :]
        if len(ids) != len(wanted) or not torch.equal(ids[:, 0].long().cpu(), wanted):
            return
        if request.sampling_params.prompt_logprobs == 0:
            # The same field that vLLM's own fixed-token path fills: one array, no Python object a token.
            output.prompt_token_id_logprobs_dict[request.request_id] = logprobs[:, :1].contiguous()
        else:
            ranks = rows.selected_token_ranks[-len(wanted) :]
            output.prompt_logprobs_dict[request.request_id] = LogprobsTensors(ids, logprobs, ranks)
