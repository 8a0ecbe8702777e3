"""How far the scorer is from the policy, in nats a token: the rollout's own log-probs less the scorer's.

Knows `POST /score` and what verl's agent loops return; no groups, no rewards. Never raises: a metric that is
missing is nan, and the reward beside it stands.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from opera_adapters._calling import MANY
from opera_adapters.verl.settings import OperaSettings
from opera_client import AsyncRewardClient
from opera_client.errors import OperaError
from opera_client.wire import ScoreItem

log = logging.getLogger("opera_adapters")


class Drift:
    """Asks what the scorer thinks of the very tokens that the policy sampled."""

    def __init__(self, settings: OperaSettings) -> None:
        self._run_id = settings.run_id
        self._client = AsyncRewardClient(settings.url, timeout=settings.timeout_s, retries=MANY)

    async def __call__(self, outputs: Sequence[Any], *, scored_by: str, timeout_s: float) -> list[float]:
        """Return the mean over each output's sampled tokens of the policy's log-prob less the scorer's.

        Its expectation over samples is the KL divergence from policy to scorer, weighted by length.

        Args:
            outputs: verl's `AgentLoopOutput` of the sessions of one prompt.
            scored_by: the weight version to ask for, the one behind the rewards.
            timeout_s: seconds for all of it.
        """
        items = [
            ScoreItem(id=str(at), context_token_ids=list(one.prompt_ids), target_token_ids=list(one.response_ids))
            for at, one in enumerate(outputs)
        ]
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.score(
                    items, detail="tokens", weight_version=scored_by, run_id=self._run_id
                )
        except (OperaError, TimeoutError) as error:
            log.warning("opera/scorer_kl of %d trajectories is unknown: %s", len(items), error or "out of time")
            return [math.nan] * len(items)
        return [
            apart(one.response_logprobs, found.token_logprobs, one.response_mask)
            for one, found in zip(outputs, answer.items, strict=True)
        ]


def apart(policy: Sequence[float] | None, scorer: Sequence[float | None] | None, mask: Sequence[int]) -> float:
    """Return the mean of policy - scorer where `mask` is not 0 (a tool's tokens were not sampled); nan without."""
    if policy is None or scorer is None or not any(mask):
        return math.nan
    pairs = zip(policy, scorer, mask, strict=True)
    return fmean(own - theirs for own, theirs, kept in pairs if kept and theirs is not None)
