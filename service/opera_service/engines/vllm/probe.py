"""The probe that decides whether a vLLM scores exactly from its cache: at start-up and after every swap.

It scores fixed ids in the ways that lose or corrupt rows, and compares with recomputation. It knows nothing of
what the numbers should be, only that both ways must give the same, as far as this device gives the same numbers
twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from opera_client.errors import EngineFailed
from opera_service.engines.vllm.plan import Prompt, Rows

if TYPE_CHECKING:  # it needs vLLM installed; who asks another's vLLM has none
    from opera_service.engines.vllm.core import Core

_LEAST = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.2}
_TIMES = 8
"""A difference this many times what recomputation itself differs by is no rounding. Entries of other weights were
off by 0.9 to 2.5 nats when they were measured."""


def prompts(vocab_size: int, block: int) -> list[Prompt]:
    """Return a context that ends on a block, and one whose whole path is inside the blocks of the first."""
    ids = np.random.default_rng(20).integers(0, vocab_size, 2 * block + 5).astype(np.int32)
    return [Prompt(ids, start=2 * block), Prompt(ids[: block + 5], start=block - 3)]


def tolerance(dtype: str, noise: float = 0.0) -> float:
    """Return the largest difference in nats that rounding explains, given the noise measured on this device."""
    return max(_LEAST.get(dtype, _LEAST["bfloat16"]), _TIMES * noise)


def difference(some: Sequence[Rows], others: Sequence[Rows]) -> float:
    """Return the largest difference in nats between two scorings of the same prompts; NaN where one is none."""
    return float(np.max([np.abs(a.logprobs - b.logprobs).max() for a, b in zip(some, others, strict=True)]))


async def fill(core: Core) -> None:
    """Leave the probe's prompts in the cache, so that stale entries show after a swap."""
    for prompt in _prompts(core):
        await core.score(prompt)


async def check(core: Core) -> float:
    """Raise EngineFailed unless cached scores equal recomputed ones; return their mean log-probability, a canary.

    Each prompt is scored through the cache first: after a swap an entry of the old weights would be read here.
    """
    asked = _prompts(core)
    cold = [await core.score(prompt) for prompt in asked]
    exact = [await core.score(prompt, recompute=True) for prompt in asked]
    # Together, as batches differ in practice: on a GPU this alone changes the last bits.
    again = await asyncio.gather(*(core.score(prompt, recompute=True) for prompt in asked))
    warm = [await core.score(prompt) for prompt in asked]
    truth = _whole(exact)
    for prompt, found, anew in zip(asked, _whole(warm), truth, strict=True):
        # One block of the first prompt ends before its first scored row; none of the second.
        expected = (prompt.start - 1) // core.block_size * core.block_size
        cached = len(prompt.ids) - found.computed
        if cached != expected or anew.computed != len(prompt.ids):
            raise EngineFailed(_moved(f"{cached} tokens came from the cache, expected {expected}"))
    allowed = tolerance(core.dtype, difference(_whole(again), truth))
    for scored in (cold, warm):
        error = difference(_whole(scored), truth)
        if not error <= allowed:
            raise EngineFailed(
                f"vLLM's cached scores differ from recomputed ones by {error:.3g} nats, where {allowed:.3g} are "
                "rounding: entries of other weights, or a prefix cache that is not exact for this model; "
                "nothing is served"
            )
    return float(np.mean([rows.logprobs.mean() for rows in truth]))


def _prompts(core: Core) -> list[Prompt]:
    block = core.block_size
    if core.max_model_len < 2 * block + 6:
        raise EngineFailed(
            f"the model's length of {core.max_model_len} leaves no room for two cache blocks of {block} tokens; "
            "lower --vllm.block_size or raise --vllm.max_model_len"
        )
    return prompts(core.vocab_size, block)


def _whole(found: Sequence[Rows | None]) -> list[Rows]:
    whole = [rows for rows in found if rows is not None]
    if len(whole) < len(found):
        raise EngineFailed(_moved("scored rows are missing"))
    return whole


def _moved(what: str) -> str:
    return (
        f"this vLLM does not score exactly from its prefix cache ({what}); install vllm==0.32.0, for which "
        "this engine is written, or serve with --engine torch"
    )
