"""What the service says when it is asked directly, without any trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opera_client import RewardClient


def direct(url: str, reference: str, sessions: Mapping[int, Any]) -> dict[int, float | None]:
    """Return the reward of each session of one group, by one `POST /reward` of their ids."""
    names = sorted(sessions)
    group = {
        "prompt_token_ids": sessions[names[0]].prompt_ids,
        "reference": reference,
        "trajectories": [{"response_token_ids": sessions[name].response_ids} for name in names],
    }
    with RewardClient(url) as client:
        (rewards,) = client.reward([group]).rewards
    return dict(zip(names, rewards, strict=True))
