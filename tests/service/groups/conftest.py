"""A state with a clock that tests move, members in one line, and everything that was replied."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from opera_client.errors import OperaError
from opera_service.groups.group import GroupBatch, GroupKey, MemberSubmission, Waiter
from opera_service.groups.limits import GroupLimits
from opera_service.groups.state import GroupState


def key(group: str = "g", number: int = 0) -> GroupKey:
    return GroupKey("run", 1, group, "opera", "hash", number)


def submission(
    member: str, group: str = "g", *, size: int = 2, text: str | None = None, **fields: Any
) -> MemberSubmission[str]:
    """A member whose content is `text`, its own name by default, and that waits 10 seconds."""
    text = member if text is None else text
    given = {"wait_s": 10.0, "tokens": 1, "shared": {"prompt": "p"}} | fields
    return MemberSubmission(key(group), size, member, text.encode(), text, **given)


def of_run(run: str, member: str, group: str, **fields) -> MemberSubmission[str]:
    one = submission(member, group, **fields)
    return replace(one, key=one.key._replace(run_id=run))


def by_name(batch: GroupBatch[str, str]) -> dict[str, str]:
    """Answers that tell who was scored with whom: `a of a b`."""
    return {name: f"{name} of {' '.join(sorted(batch.members))}" for name in batch.fresh}


@dataclass
class Desk:
    """A state, its clock, and what every caller heard."""

    limits: GroupLimits = field(default_factory=GroupLimits)
    now: float = -10.0  # the usual wait ends at 0.0, a time like any other
    weigh: Callable[[str], int] = lambda _: 0
    heard: dict[Waiter[str, str], str | OperaError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state: GroupState[str, str] = GroupState(self.limits, lambda: self.now, self.weigh)

    def join(self, *args: Any, **fields: Any) -> Waiter[str, str]:
        return self.enter(submission(*args, **fields))

    def enter(self, one: MemberSubmission[str]) -> Waiter[str, str]:
        replies: list[str | OperaError] = []
        waiter = self.state.join(one, replies.append)

        def hear(outcome: str | OperaError) -> None:
            assert waiter not in self.heard, "answered twice"
            self.heard[waiter] = outcome

        waiter.reply = hear
        for reply in replies:  # an answer that was there already
            hear(reply)
        return waiter

    def tick(self, seconds: float = 0.0) -> list[GroupBatch[str, str]]:
        self.now += seconds
        return self.state.tick()

    def score(self, seconds: float = 0.0, outcome: Mapping[str, str] | OperaError | None = None) -> list[str]:
        """Let time pass, score every batch that is due, and return their kinds."""
        kinds = []
        for batch in self.tick(seconds):
            kinds.append(batch.kind)
            self.state.close(batch, by_name(batch) if outcome is None else outcome)
        return kinds


@pytest.fixture
def desk() -> Desk:
    return Desk()
