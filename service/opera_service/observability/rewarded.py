"""The one event of the service: the rewards of a request are known.

`POST /reward` and its relatives raise it on the event loop, after the answer is complete and before anybody sees
it. Whoever counts, watches or records rewards is a subscriber, named when the service is built. It returns
at once and changes nothing; what it raises is logged, and neither the answer nor the other subscribers feel it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from opera_client.errors import OperaError
from opera_client.wire import Group, GroupResult, RewardRequest, RewardResult, TrajectoryResult
from opera_service.rewards.base import GroupOutcome, Outcome
from opera_service.rewards.registry import AnyReward
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory

logger = logging.getLogger(__name__)


class ScoredTrajectory(NamedTuple):
    """One trajectory that has a reward."""

    encoded: EncodedTrajectory
    outcome: Outcome
    result: TrajectoryResult


@dataclass(frozen=True)
class RewardedGroup:
    """One group of the request."""

    asked: Group
    result: GroupResult
    encoded: EncodedGroup | None
    """The trajectories of `outcome`, in order; None when nothing of the group could be encoded."""
    outcome: GroupOutcome | None
    """None when nothing of the group was scored."""

    def scored(self) -> Iterator[ScoredTrajectory]:
        """Yield the trajectories that have a reward, in order."""
        if self.encoded is not None and self.outcome is not None:
            results = (one for one in self.result.trajectories if one.status == "ok")
            for parts in zip(self.encoded.trajectories, self.outcome.trajectories, results, strict=True):
                yield ScoredTrajectory(*parts)


@dataclass(frozen=True)
class Rewarded:
    """One request, its answer, and what the answer was made from."""

    request: RewardRequest
    result: RewardResult
    reward: AnyReward
    """The reward that `request` names, with its configuration."""
    groups: tuple[RewardedGroup, ...]
    """In the order of the request."""
    fresh: frozenset[str] | None
    """Ids of the trajectories that the run has not been told of yet; None: all of them. A group that was scored
    again, because members came late, has fresh ones beside others."""

    expected: int | None = None
    """How many members the one group was to have, where they came one by one."""

    def is_fresh(self, trajectory_id: str) -> bool:
        """Whether the run is told of this trajectory for the first time."""
        return self.fresh is None or trajectory_id in self.fresh


Subscriber = Callable[[Rewarded], None]
RefusedSubscriber = Callable[[RewardRequest], None]
"""Told of a request that was answered with an error as a whole; returns at once and raises nothing."""


def announce(event: Rewarded, subscribers: Iterable[Subscriber]) -> None:
    """Tell every subscriber, in order."""
    for subscriber in subscribers:
        try:
            subscriber(event)
        except Exception:  # the answer is made already: a defect of a subscriber must not take it away
            logger.exception("%r failed on a rewarded request; the answer is not affected", subscriber)


@contextmanager
def telling_refusals(request: RewardRequest, subscribers: Iterable[RefusedSubscriber]) -> Iterator[None]:
    """Tell every subscriber of `request` when the block ends in an error of the service's own kind."""
    try:
        yield
    except OperaError:
        for subscriber in subscribers:
            subscriber(request)
        raise
