"""What one request may ask for, each bound with an error of its own that names field, bound and remedy.

It knows the wire's models; what waits at a time is `scoring.admission`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from opera_client.errors import (
    LimitExceeded,
    TooManyBranches,
    TooManyGroups,
    TooManyItems,
    TooManyTokens,
    TooManyTrajectories,
)
from opera_client.wire import Group


@dataclass(frozen=True)
class RequestLimits:
    """Bounds of one request; the settings have the same names and reasons."""

    max_groups: int = 256
    max_trajectories: int = 4096
    """In all groups of a request together, or in a group that gathers member by member."""
    max_items: int = 1024
    """Items of /rank, /expand and /score, prompts of /v1/completions."""
    max_branches: int = 1024
    """Candidates of one item of /rank, `n` of one item of /expand."""
    max_request_tokens: int = 8 * 2**20
    """Distinct tokens to compute."""

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could ever be answered."""
        for one in fields(self):
            if getattr(self, one.name) < 1:
                raise ValueError(f"{one.name} must be at least 1, got {getattr(self, one.name)}")

    def check_groups(self, groups: Sequence[Group]) -> None:
        """Raise `TooManyGroups` or `TooManyTrajectories`."""
        self._check(TooManyGroups, len(groups), "max_groups", "groups", "groups in one request")
        self.check_trajectories(sum(len(group.trajectories) for group in groups), "groups")

    def check_trajectories(self, count: int, field: str) -> None:
        """Raise `TooManyTrajectories`."""
        self._check(TooManyTrajectories, count, "max_trajectories", field, "trajectories at once")

    def check_items(self, count: int, field: str = "items") -> None:
        """Raise `TooManyItems`."""
        self._check(TooManyItems, count, "max_items", field, f"{field} in one request")

    def check_branches(self, counts: Sequence[int], field: str) -> None:
        """Raise `TooManyBranches` for the first item with too many of them in `field`."""
        for index, count in enumerate(counts):
            self._check(TooManyBranches, count, "max_branches", f"items.{index}.{field}", "branches of one item")

    def check_tokens(self, count: int, field: str) -> None:
        """Raise `TooManyTokens`."""
        self._check(TooManyTokens, count, "max_request_tokens", field, "distinct tokens to compute in one request")

    def _check(self, kind: type[LimitExceeded], count: int, name: str, field: str, what: str) -> None:
        limit = getattr(self, name)
        if count > limit:
            flag = name.replace("_", "-")
            raise kind(f"{count} {what}, and the limit is {limit} (--{flag}); send less at once", field=field)
