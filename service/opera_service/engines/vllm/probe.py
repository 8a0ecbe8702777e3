"""The probe that decides whether this vLLM scores exactly from its cache: at start-up and after every swap.

It scores fixed ids in the three ways that lose or corrupt rows, and compares with recomputation. It knows
nothing of what the numbers should be, only that both ways must give the same.
"""

from __future__ import annotations

import numpy as np

from opera_client.errors import EngineFailed
from opera_service.engines.vllm.core import Core
from opera_service.engines.vllm.plan import Prompt

TOLERANCE = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.2}


def prompts(core: Core) -> list[Prompt]:
    """Return a context that ends on a block, and one whose whole path is inside the blocks of the first."""
    block = core.block_size
    if core.max_model_len < 2 * block + 6:
        raise EngineFailed(
            f"the model's length of {core.max_model_len} leaves no room for two cache blocks of {block} tokens; "
            "lower --vllm.block_size or raise --vllm.max_model_len"
        )
    ids = np.random.default_rng(20).integers(0, core.vocab_size, 2 * block + 5).astype(np.int32)
    return [Prompt(ids, start=2 * block), Prompt(ids[: block + 5], start=block - 3)]


def tolerance(core: Core) -> float:
    """Return the largest difference in nats that rounding explains in the dtype of `core`."""
    return TOLERANCE.get(core.dtype, TOLERANCE["bfloat16"])


async def fill(core: Core) -> None:
    """Leave the probe's prompts in the cache, so that stale entries show after a swap."""
    for prompt in prompts(core):
        await core.score(prompt)


async def check(core: Core) -> float:
    """Raise EngineFailed unless cached scores equal recomputed ones; return their mean log-probability, a canary.

    Each prompt is scored through the cache first: after a swap an entry of the old weights would be read here.
    """
    seen: list[float] = []
    for prompt in prompts(core):
        cold = await core.score(prompt)
        exact = await core.score(prompt, recompute=True)
        warm = await core.score(prompt)
        if cold is None or exact is None or warm is None:
            raise EngineFailed(_moved("scored rows are missing"))
        # One block of the first prompt ends before its first scored row; none of the second.
        expected = (prompt.start - 1) // core.block_size * core.block_size
        if len(prompt.ids) - warm.computed != expected or exact.computed != len(prompt.ids):
            raise EngineFailed(
                _moved(f"{len(prompt.ids) - warm.computed} tokens came from the cache, expected {expected}")
            )
        for scored in (cold, warm):
            error = float(np.abs(scored.logprobs - exact.logprobs).max())
            if not error <= tolerance(core):
                raise EngineFailed(
                    f"vLLM's cached scores differ from recomputed ones by {error:.3g} nats: entries of other "
                    "weights, or a prefix cache that is not exact for this model; nothing is served"
                )
        seen.append(float(exact.logprobs.mean()))
    return float(np.mean(seen))


def _moved(what: str) -> str:
    return (
        f"this vLLM does not score exactly from its prefix cache ({what}); install vllm==0.32.0, for which "
        "opera-reward's scheduler is written, or serve with --engine torch"
    )
