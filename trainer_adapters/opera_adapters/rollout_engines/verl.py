"""verl's rollout replicas, asked for scores by the very call that samples, each trajectory where it was sampled.

Knows verl's client of its servers and how that tells log-probabilities; no reward, no group.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from opera_adapters._versions import weight_version
from opera_vllm.asking import PromptRows, sampling_params

_MOST = 8192
"""Trajectories that are remembered: the oldest leave first."""


class ReplicasVllm:
    """`opera_vllm.asking.RolloutVllm` over verl's client, and that client itself for whoever samples.

    verl sends equal request ids to the same replica. So it is remembered which id wrote what, and a prompt is
    scored under the id of the trajectory that it shares most with: its keys and values are there and nowhere else.
    """

    def __init__(self, client: Any, *, model: str, dtype: str, max_model_len: int, run_id: str | None) -> None:
        self._client, self._run_id = client, run_id
        self.model, self.dtype, self.max_model_len = model, dtype, max_model_len
        self._written: list[tuple[list[int], str]] = []
        """Trajectories and who wrote them, sorted: what shares most with some ids stands beside their place."""
        self._order: deque[tuple[list[int], str]] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def generate(self, request_id: str, *, prompt_ids: Sequence[int], **more: Any) -> Any:
        """Sample as verl does, and remember who wrote what."""
        output = await self._client.generate(request_id, prompt_ids=prompt_ids, **more)
        one = ([*prompt_ids, *output.token_ids], request_id)
        insort(self._written, one)
        self._order.append(one)
        if len(self._order) > _MOST:
            del self._written[bisect_left(self._written, self._order.popleft())]
        return output

    async def score(self, token_ids: list[int], first_row: int | None) -> PromptRows:
        """Return a prompt's rows, from the replica that knows most of it."""
        params = sampling_params(first_row)
        output = await _generate(
            self._client, self._writer(token_ids), prompt_ids=token_ids, sampling_params=params
        )
        told = output.extra_fields
        # A list of one a row, and a row of zeros at the end, as verl pads them.
        ids, logprobs = told["prompt_ids"][:-1], told["prompt_logprobs"][:-1]
        return PromptRows(
            [one for (one,) in ids],
            [one for (one,) in logprobs],
            told.get("num_cached_tokens"),
            weight_version(self._run_id, int(told["global_steps"])),
        )

    def _writer(self, token_ids: list[int]) -> str:
        """Return the request id that wrote the trajectory with the longest common prefix, a new one for none."""
        place = bisect_left(self._written, (token_ids, ""))
        beside = self._written[max(place - 1, 0) : place + 1]
        shared, writer = max(((_shared(ids, token_ids), writer) for ids, writer in beside), default=(0, ""))
        return writer if shared else uuid4().hex


def _shared(some: list[int], others: list[int]) -> int:
    """Return how many first tokens are the same."""
    return bisect_left(range(min(len(some), len(others))), True, key=lambda at: some[: at + 1] != others[: at + 1])


async def _generate(client: Any, request_id: str, **asked: Any) -> Any:
    """Call what the synchronous client does: the one that survives interruptions returns no log-probabilities."""
    from verl.workers.rollout.llm_server import LLMServerClient

    return await LLMServerClient.generate(client, request_id, **asked)
