"""Group-relative advantages from right and wrong, for rewards that shape tokens by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.config import Judge
from opera_service.rewards.policy_tokens import Member, PolicyConfig, Values
from opera_service.trajectories.encoded import EncodedGroup

_EPSILON = 1e-6
"""GRPO's, beside the standard deviation."""


class OutcomeConfig(PolicyConfig):
    """What rewards share that read right and wrong of every member."""

    def judge_of(self, task: str) -> Judge | None:
        """Return the judge of `math` tasks; an open task has no right and wrong."""
        return "math_verify" if task == "math" else None


def told_if_alone(members: list[Member]) -> list[Member]:
    """Return the members; a lone one with the flag that nothing can be said of it."""
    if len(members) > 1:
        return members
    return [replace(one, flags=(*one.flags, "uninformative")) for one in members]


def outcomes(group: EncodedGroup, members: Sequence[Member], name: str) -> Values:
    """Return 1 for right and 0 for wrong, which is also what the guards do not pay.

    Raises OutcomeUnavailable for tasks without right and wrong.
    """
    if group.task != "math":
        raise OutcomeUnavailable(f"{name} reads right and wrong, so it needs the task `math`")
    if any(one.trajectory.outcome is None for one in members):
        raise OutcomeUnavailable("a math task needs to be judged before its reward can be read")
    return np.array([float(bool(one.trajectory.outcome) and one.valid) for one in members])


def advantages(right: Values) -> Values:
    """Return GRPO's (r - mean) / (standard deviation + 1e-6), with n - 1; 0 where all are alike, and for one."""
    if len(right) < 2:
        return np.zeros(len(right))
    return np.asarray((right - right.mean()) / (right.std(ddof=1) + _EPSILON))
