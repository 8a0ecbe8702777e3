"""The flags of answers: what encoding and reward said, reward-hacking indicators, and what the run's past adds.

Knows which rooms know what; computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from opera_service.observability.hacking_indicators import indicators
from opera_service.observability.rewarded import RewardedGroup
from opera_service.observability.run_health import LENGTH_DRIFT, RunHealth
from opera_service.rewards.base import GroupOutcome
from opera_service.trajectories.encoded import EncodedGroup


def flags_of(group: EncodedGroup, outcome: GroupOutcome) -> list[list[str]]:
    """Return what each scored trajectory's own words and numbers tell."""
    pairs = zip(outcome.trajectories, indicators(group), strict=True)
    return [list(dict.fromkeys((*one.flags, *found))) for one, found in pairs]


def flag_drift(
    health: RunHealth, run_id: str | None, groups: Sequence[RewardedGroup], fresh: Collection[str] | None
) -> None:
    """Add to the answers of fresh trajectories (None: all) what only the run's past can tell."""
    new = [[one for one in group.scored() if fresh is None or one.encoded.id in fresh] for group in groups]
    drifted = health.drifted(run_id, [[one.encoded.response_tokens for one in group] for group in new])
    for group, flags in zip(new, drifted, strict=True):
        for one, drifts in zip(group, flags, strict=True):
            if drifts:
                one.result.flags.append(LENGTH_DRIFT)
