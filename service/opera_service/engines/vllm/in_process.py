"""The vLLM that a trainer samples with, asked in the trainer's own process; `rollout` has the engine over it.

Knows no vLLM package and no trainer: the trainer's adapter brings the call.
"""

from __future__ import annotations

import numpy as np

from opera_client.errors import EngineFailed, NotSupported, OperaError
from opera_service.engines.base import EngineInfo, Generation, GenerationRequest
from opera_service.engines.vllm.plan import Prompt, Rows
from opera_service.engines.vllm.rollout import INFLIGHT_TOKENS, Answer, RolloutEngine, Route
from opera_vllm.asking import RolloutVllm


class TrainersVllm:
    """`Vllm` by a trainer's own call."""

    def __init__(self, vllm: RolloutVllm) -> None:
        self._vllm = vllm

    async def score(self, prompt: Prompt, route: Route) -> Answer:
        """Score by the trainer's call. Raises EngineFailed for whatever that raises."""
        if prompt.top:
            raise NotSupported("the trainer's engine is asked for rewards only, not for the most likely tokens")
        try:
            first_row = prompt.start - 1 if route == "prefix-cache" else None
            found = await self._vllm.score(prompt.ids.tolist(), first_row)
        except OperaError:
            raise
        except Exception as error:  # whatever a trainer's engine raises
            raise EngineFailed(f"the trainer's engine failed: {type(error).__name__}: {error}") from error
        cached = found.cached_tokens
        cut = len(found.token_ids) == prompt.rows < len(prompt.ids) - 1
        same = np.array_equal(found.token_ids[-prompt.rows :], prompt.ids[prompt.start :])
        # A first scored row that came from the cache was never computed, whatever stands in its place.
        if not same or (cached or 0) >= prompt.start:
            return Answer(None, cut, cached, found.weight_version)
        logprobs = np.asarray(found.logprobs[-prompt.rows :], dtype=np.float32)
        return Answer(Rows(logprobs, len(prompt.ids) - (cached or 0)), cut, cached, found.weight_version)

    async def sample(self, request: GenerationRequest, weight_version: str) -> list[Generation]:  # noqa: ARG002
        """Raise NotSupported: that engine samples for its trainer."""
        raise NotSupported(
            "the trainer's engine samples for the trainer alone; /expand needs an engine of its own"
        )

    async def weight_version(self) -> None:
        """Return None: each answer tells it, where the trainer has a name for it."""

    async def aclose(self) -> None:
        """Do nothing; the engine is the trainer's."""


async def connect(
    vllm: RolloutVllm, *, vocab_size: int, weight_version: str = "0", inflight_tokens: int = INFLIGHT_TOKENS
) -> RolloutEngine:
    """Find out how the trainer's vLLM can score. Raises EngineFailed when it cannot."""
    info = EngineInfo(
        engine="vllm-rollout",
        model=vllm.model,
        revision="unknown",
        weight_version=weight_version,
        dtype=vllm.dtype,
        vocab_size=vocab_size,
        max_context=vllm.max_model_len - 1,
        max_batch_tokens=inflight_tokens,
        borrowed=True,
    )
    return await RolloutEngine.connect(TrainersVllm(vllm), info)
