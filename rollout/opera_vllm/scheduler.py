"""What the plug-in adds to vLLM's scheduler. It runs in the EngineCore process, among the trainer's rollouts.

Left alone, vLLM skips the whole cache for a prompt whose log-probabilities are wanted or, told to read it, serves
rows it never computed. Here such a prompt reads the cache up to the first row that is wanted, and no further.

Rollouts come first: whatever surprises the code below, the request is computed in full, without the cache, and a
warning says so once. Rows that may not have been computed never leave.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch

from opera_vllm import FIRST_ROW

log = logging.getLogger("vllm.opera_vllm")


@cache
def scoring(scheduler: type[Any]) -> type[Any]:
    """Return a subclass of the given scheduler class that scores from the prefix cache."""
    if issubclass(scheduler, _Scoring):
        return scheduler
    return type(f"Scoring{scheduler.__name__}", (_Scoring, scheduler), {})


def first_row(request: Any) -> int | None:
    """Return the first scored row of a vLLM request; None for one that scores nothing, or asks for nonsense."""
    params = request.sampling_params
    extra = getattr(params, "extra_args", None)
    if not extra or FIRST_ROW not in extra:
        return None
    row, ids = extra[FIRST_ROW], request.prompt_token_ids
    wanted = params.prompt_logprobs is not None or getattr(params, "prompt_logprob_token_ids", None) is not None
    if not wanted or type(row) is not int or ids is None or not 0 <= row < len(ids) - 1:
        _warn_once("a request's first row does not fit it", row)
        return None
    return row


class _Scoring:
    """Mixed into a vLLM scheduler, before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opera: _CacheReader | None = None
        try:
            self._opera = _CacheReader(self)
        except Exception:
            log.exception("opera-reward scores nothing from the prefix cache")

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """Send on the scored rows of a prompt only."""
        if self._opera is not None:
            self._opera.trim(model_runner_output)
        return super().update_from_output(scheduler_output, model_runner_output)  # type: ignore[misc]


class _CacheReader:
    """Lets scored prompts read one scheduler's prefix cache. Raises where that cannot be exact."""

    def __init__(self, scheduler: Any) -> None:
        if getattr(scheduler, "connector", None) is not None:
            raise NotImplementedError("a KV connector brings cached tokens by a way that is not capped")
        self._requests = scheduler.requests
        manager = scheduler.kv_cache_manager
        self._lookup = manager.get_computed_blocks
        self._longest_hit = manager.coordinator.find_longest_cache_hit
        self._limit: int | None = None
        manager.get_computed_blocks = self.get_computed_blocks
        manager.coordinator.find_longest_cache_hit = self.find_longest_cache_hit
        if not manager.enable_caching:
            log.warning("prefix caching is off: opera-reward's scored prompts are computed in full")

    def get_computed_blocks(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Look a request up in the cache; a scored one as far as its first row."""
        row = first_row(request)
        if row is None:
            return self._lookup(request, *args, **kwargs)
        skips, self._limit = request.skip_reading_prefix_cache, row
        try:
            request.skip_reading_prefix_cache = False
            found = self._lookup(request, *args, **kwargs)
            if found[1] <= row:
                return found
            _warn_once("the cache gave more tokens than were allowed", (found[1], row))
        except Exception as error:  # noqa: BLE001  it would end the trainer's engine
            _warn_once("looking up a scored prompt failed", error)
        finally:
            request.skip_reading_prefix_cache, self._limit = skips, None
        return self._lookup_nothing(request, *args, **kwargs)

    def find_longest_cache_hit(self, block_hashes: Any, max_length: int, *args: Any, **kwargs: Any) -> Any:
        """Find a hit that ends before the limit, while there is one."""
        if self._limit is not None:
            max_length = min(max_length, self._limit)
        return self._longest_hit(block_hashes, max_length, *args, **kwargs)

    def _lookup_nothing(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        skips = request.skip_reading_prefix_cache
        try:
            request.skip_reading_prefix_cache = True
            return self._lookup(request, *args, **kwargs)
        finally:
            request.skip_reading_prefix_cache = skips

    def trim(self, output: Any) -> None:
        """Keep the scored rows of every prompt in a step's output, or none where they are not what was asked.

        The rest was not computed: on one of vLLM's runners it is memory that nobody wrote.
        """
        found = output.prompt_logprobs_dict
        for name in [name for name, rows in found.items() if rows is not None]:
            try:
                request = self._requests.get(name)
                row = None if request is None else first_row(request)
                if row is not None:
                    found[name] = scored_rows(found[name], request.prompt_token_ids[row + 1 :])
            except Exception as error:  # noqa: BLE001  as above
                found[name] = None
                _warn_once("the rows of a scored prompt are withheld", error)


def scored_rows(rows: Any, targets: list[int]) -> Any:
    """Return the rows that predict `targets`, the last ones. Raises ValueError when they belong to other tokens.

    vLLM's V1 runner has a row for every prompt token, V2 one for every token it computed: both end alike.
    """
    count = len(targets)
    ids = rows.logprob_token_ids[-count:]
    if not torch.equal(ids[:, 0].cpu().long(), torch.tensor(targets)):
        raise ValueError("they belong to other tokens")
    return rows._replace(
        logprob_token_ids=ids.contiguous(),
        logprobs=rows.logprobs[-count:].contiguous(),
        selected_token_ranks=rows.selected_token_ranks[-count:].contiguous(),
    )


_warned: set[str] = set()


def _warn_once(what: str, detail: object) -> None:
    if what not in _warned:
        _warned.add(what)
        log.warning("opera-reward: %s (%r). Rollouts are not affected; this is said once", what, detail)
