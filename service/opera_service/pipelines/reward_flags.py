"""The flags of a group's answer: what encoding and reward said, signs of hacking, and what the run's past adds.

Knows which rooms know what; computes nothing itself.
"""

from __future__ import annotations

from collections.abc import Collection

from opera_service.observability.hacking_indicators import indicators
from opera_service.observability.run_health import HACKING, Seen
from opera_service.pipelines.service import Service
from opera_service.rewards.base import GroupOutcome
from opera_service.trajectories.encoded import EncodedGroup


def flags_of(
    service: Service,
    run_id: str | None,
    group: EncodedGroup,
    outcome: GroupOutcome,
    *,
    fresh: Collection[str] | None,
) -> list[list[str]]:
    """Return the flags of each scored trajectory, and let the run's health see those in `fresh` (None: all)."""
    scored = list(zip(group.trajectories, outcome.trajectories, indicators(group), strict=True))
    flags = [list(dict.fromkeys((*one.flags, *found))) for _, one, found in scored]
    new = [at for at, (trajectory, *_) in enumerate(scored) if fresh is None or trajectory.id in fresh]
    seen = [Seen(scored[at][1].reward, scored[at][0].response_tokens, tuple(flags[at])) for at in new]
    late = service.run_health.group(run_id, seen, whole=fresh is None)
    for at, more in zip(new, late, strict=True):
        flags[at] += more
        service.metrics.flagged([flag for flag in flags[at] if flag in HACKING])
    return flags
