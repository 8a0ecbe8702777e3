"""The nouns of a group that gathers: key, submission, member, waiter, group, batch.

Plain data. The rules are in `state`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

from opera_client.errors import OperaError

Content = TypeVar("Content")
"""What a member brings to be scored."""
Answer = TypeVar("Answer")
"""What a member gets; never None."""
Kind = Literal["complete", "partial", "late"]


class GroupKey(NamedTuple):
    """Which group a member belongs to; equal keys meet."""

    run_id: str | None
    step: int | None
    group_id: str
    reward: str
    config_hash: str
    number: int = 0
    """Tells groups apart whose callers send no ids of their own (see `submissions`)."""


@dataclass(frozen=True)
class MemberSubmission(Generic[Content]):
    """One member as it arrives; a retry is the same submission again."""

    key: GroupKey
    size: int
    """Members that make the group complete, at least 1."""
    member_id: str
    fingerprint: bytes
    """Digest of all that is scored: the same id with another fingerprint is a conflict."""
    content: Content
    tokens: int
    """What it costs in memory: its own tokens and those of the prompt and the reference."""
    wait_s: float
    """How long this caller waits for the others."""
    on_timeout: Literal["partial", "error"] = "partial"
    shared: Mapping[str, object] = field(default_factory=dict)
    """What all members must agree on, by field name: prompt, reference, …"""
    sender: str = ""
    """Whose key came with it; empty where no keys are asked for."""


@dataclass(eq=False)
class Waiter(Generic[Content, Answer]):
    """One caller that waits for one member's answer."""

    group: Group[Content, Answer]
    member: Member[Content, Answer]
    deadline: float
    reply: Callable[[Answer | OperaError], None]
    done: bool = False
    """Answered, or the caller has left."""


@dataclass(eq=False)
class Member(Generic[Content, Answer]):
    """A place in a group. It is kept while its callers come and go."""

    id: str
    fingerprint: bytes
    tokens: int
    content: Content | None
    """None once it can never be scored again."""
    waiters: list[Waiter[Content, Answer]] = field(default_factory=list)
    answer: Answer | None = None
    delivered: bool = False
    """Some caller was there to take the answer."""


@dataclass(eq=False)
class Group(Generic[Content, Answer]):
    """The members of one key that have arrived so far, in order of submission."""

    key: GroupKey
    size: int
    on_timeout: Literal["partial", "error"]
    shared: Mapping[str, object]
    touched: float
    """When it last changed or was last waited for."""
    sender: str = ""
    """Whose first member opened it; see `MemberSubmission.sender`."""
    members: dict[str, Member[Content, Answer]] = field(default_factory=dict)
    scoring: bool = False
    """A batch of it is out."""
    answered: float | None = None
    """When its latest answers came."""
    held_tokens: int = 0
    """Tokens of the members here."""
    largest: int = 0
    """Tokens of the largest of them."""

    @property
    def full(self) -> bool:
        """Every member has arrived."""
        return len(self.members) >= self.size

    @property
    def over(self) -> bool:
        """Every member has arrived and somebody took its answer."""
        return self.full and all(member.delivered for member in self.members.values())

    def claim(self, arriving: int | None = None) -> int:
        """Return the tokens to make room for, given that a new member of `arriving` tokens comes in.

        Every empty place counts like the largest member, so that what is admitted can complete.
        """
        if arriving is None:
            return self.held_tokens + self.largest * (self.size - len(self.members))
        return self.held_tokens + arriving + max(self.largest, arriving) * (self.size - len(self.members) - 1)

    @property
    def fresh(self) -> list[Member[Content, Answer]]:
        """Members without an answer."""
        return [member for member in self.members.values() if member.answer is None]

    @property
    def waiters(self) -> list[Waiter[Content, Answer]]:
        """Everybody who waits for this group."""
        return [waiter for member in self.members.values() for waiter in member.waiters]


@dataclass(frozen=True, eq=False)
class GroupBatch(Generic[Content, Answer]):
    """Members to score together now; exactly one `GroupState.close` must follow."""

    group: Group[Content, Answer]
    kind: Kind
    """`late`: some of the members have their answers already; those do not change."""
    members: Mapping[str, Content]
    """All that have arrived, in order of submission."""
    fresh: frozenset[str]
    """Ids of the members that get an answer from this batch."""
