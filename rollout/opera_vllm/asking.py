"""The asking end of the plug-in's key, for a vLLM in the same process or the same cluster: no HTTP, no tokenizer.

A trainer's adapter implements `RolloutVllm` over whatever call its trainer samples with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from opera_vllm import FIRST_ROW


class PromptRows(NamedTuple):
    """What vLLM answered for a prompt whose log-probabilities were wanted."""

    token_ids: Sequence[int]
    """Tokens of the rows: the scored ones from a vLLM with the plug-in, else all of the prompt but the first."""
    logprobs: Sequence[float]
    """Natural-log probability of each, given everything before it."""
    cached_tokens: int | None
    """Prompt tokens that came from the prefix cache; None where that is not told."""
    weight_version: str | None = None
    """The trainer's name of the weights that computed them, where it has one."""


class RolloutVllm(Protocol):
    """The vLLM that a trainer samples with, as it can be asked while the trainer waits for rewards."""

    model: str
    """Folder or hub id; its tokenizer is the policy's."""
    dtype: str
    """`float32`, `bfloat16`, …"""
    max_model_len: int

    async def score(self, token_ids: list[int], first_row: int | None) -> PromptRows:
        """Return a prompt's rows from `first_row` on, the cache read as far as that; without one, all of them."""
        ...


def sampling_params(first_row: int | None) -> dict[str, Any]:
    """Return the arguments of vLLM's `SamplingParams` that score a prompt; it insists on one sampled token."""
    params: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "detokenize": False}
    return params if first_row is None else params | {"extra_args": {FIRST_ROW: first_row}}


def rows(output: Any) -> PromptRows:
    """Read a finished `RequestOutput` of such a request; no rows where vLLM gave none."""
    found = [next(iter(row.items())) for row in (output.prompt_logprobs or ())[1:]]
    return PromptRows([token for token, _ in found], [one.logprob for _, one in found], output.num_cached_tokens)
