"""What the state of groups may hold, and what it has seen.

Plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class GroupCounts:
    """What has happened so far, for metrics."""

    complete: int = 0
    """Groups scored with all their members."""
    partial: int = 0
    """Groups scored with the members present when somebody's wait was over."""
    late: int = 0
    """Members scored after their group's partial answer."""
    failed: int = 0
    """Batches that ended in an error."""
    expired: int = 0
    """Groups dropped unanswered, because nobody came back for them."""
    incomplete: int = 0
    """Callers told that their group is incomplete."""
    duplicates: int = 0
    """Arrivals of a member that had its place already."""
    refused: int = 0
    """Members refused by a limit."""


@dataclass(frozen=True)
class GroupLimits:
    """What may be held at a time; past it new groups are refused, retryably."""

    max_groups: int = 4096
    """Groups with members to answer."""
    max_members: int = 65_536
    """Places in those groups. A group takes all of them when it opens, so that what is admitted can complete."""
    max_tokens: int = 64 * 2**20
    """Tokens in those groups; and, counted apart, in what is kept of answered ones."""
    max_answers: int = 65_536
    """Answers remembered for retries; the oldest groups go first."""
    keep_s: float = 600.0
    """How long they are remembered."""
    idle_s: float = 600.0
    """How long members keep their places while nobody waits."""
    retry_s: float = 60.0
    """How long they keep them where others want in: as long as a caller takes to come again (our client: 30 s)."""

    def __post_init__(self) -> None:
        """Refuse limits under which nothing could ever be answered."""
        for name, least in (
            ("max_groups", 1),
            ("max_members", 1),
            ("max_tokens", 1),
            ("max_answers", 0),
            ("keep_s", 0),
            ("retry_s", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.idle_s > 0:
            raise ValueError(f"idle_s must be more than 0, got {self.idle_s}")
