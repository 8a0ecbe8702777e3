"""OpenRLHF's rollout actor, whose vLLM is asked for scores after it has sampled, before its weights are replaced.

Knows the actor and vLLM's asynchronous engine in it; no reward. Uses the `opera_vllm` plug-in's words.
"""

from __future__ import annotations

from typing import Any

from opera_client.errors import EngineFailed, NotSupported
from opera_vllm.asking import PromptRows, rows, sampling_params


class ActorVllm:
    """`opera_vllm.asking.RolloutVllm` over the object that OpenRLHF calls `llm_engine`.

    No step number reaches that actor. Its weights are named by how often OpenRLHF has cleared the prefix cache,
    which it does whenever it has replaced them.
    """

    def __init__(self, actor: Any) -> None:
        """Raises NotSupported for a vLLM that keeps nothing of what it has sampled."""
        config = actor.llm.vllm_config
        if not config.cache_config.enable_prefix_caching:
            raise NotSupported(
                'score_on="rollout" needs the prefix cache: start with --vllm.enable_prefix_caching'
            )
        self._actor, self._syncs = actor, 0
        model = config.model_config
        self.model, self.max_model_len = str(model.model), int(model.max_model_len)
        self.dtype = str(model.dtype).removeprefix("torch.")
        clear = actor.llm.reset_prefix_cache

        async def noted(*args: Any, **kwargs: Any) -> Any:
            self._syncs += 1
            return await clear(*args, **kwargs)

        actor.llm.reset_prefix_cache = noted

    @property
    def weight_version(self) -> str:
        """Name the weights that serve now."""
        return f"sync-{self._syncs}"

    async def score(self, token_ids: list[int], first_row: int | None) -> PromptRows:
        """Return a prompt's rows. Raises EngineFailed when the weights were replaced meanwhile."""
        from vllm import SamplingParams

        before = self.weight_version
        output = await self._actor.generate(token_ids, SamplingParams(**sampling_params(first_row)))
        if self.weight_version != before:
            raise EngineFailed("the engine's weights were replaced while it scored; retry")
        return rows(output)._replace(weight_version=before)
