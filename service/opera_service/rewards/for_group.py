"""A reward with what a group asks of it besides: steps of turns, and several references."""

from __future__ import annotations

from typing import Any

from opera_service.rewards.base import Reward
from opera_service.rewards.many_references import OverReferences
from opera_service.rewards.steps import WithSteps
from opera_service.trajectories.encoded import EncodedGroup


def for_group(reward: Reward[Any, Any], group: EncodedGroup) -> Reward[Any, Any]:
    """Return what prices the group by all of its references, and the turns of trajectories that have some.

    A reward that reads no reference stays as it is, and so does a sum, which leaves it to its terms.
    """
    if "reference" not in reward.needs:
        return reward
    with_steps = WithSteps(reward) if any(one.turns for one in group.trajectories) else reward
    return OverReferences(with_steps) if group.alternatives else with_steps
