"""The state of groups: pure and synchronous, with an injected clock.

Events go in (join, leave, tick, close), replies and batches to score come out. A full group is scored at once;
when somebody's wait is over, the members present are, or that caller is refused. No asyncio, no text, no reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic

from opera_client.errors import (
    GroupIncomplete,
    InternalError,
    InvalidRequest,
    MemberConflict,
    OperaError,
    Overloaded,
)
from opera_service.groups.deadlines import Deadlines
from opera_service.groups.group import (
    Answer,
    Content,
    Group,
    GroupBatch,
    GroupKey,
    Kind,
    Member,
    MemberSubmission,
    Waiter,
)
from opera_service.groups.limits import GroupCounts, GroupLimits
from opera_service.groups.lru_index import LruIndex
from opera_service.groups.places import Places

Clock = Callable[[], float]
"""Seconds on any monotonic scale."""


class GroupState(Generic[Content, Answer]):
    """All groups of one process. After every event, `tick` hands out the batches that became due."""

    def __init__(self, limits: GroupLimits, clock: Clock, weigh: Callable[[Answer], int]) -> None:
        """`weigh` tells what an answer costs in memory, in tokens."""
        self.limits = limits
        self._weigh = weigh
        self.counts = GroupCounts()
        self._clock = clock
        self._open: LruIndex[Content, Answer] = LruIndex()
        """Groups with members to answer."""
        self._kept: LruIndex[Content, Answer] = LruIndex()
        """Groups whose members are all answered."""
        self._deadlines: Deadlines[Content, Answer] = Deadlines()
        self._ready: dict[GroupKey, Group[Content, Answer]] = {}
        self._places = Places(limits, self._open, clock())

    # --- what is held ------------------------------------------------------------------------------------

    @property
    def waiting_groups(self) -> int:
        """Groups with members to answer."""
        return len(self._open)

    @property
    def waiting_members(self) -> int:
        """Places in them, empty ones included."""
        return self._open.members

    @property
    def waiting_tokens(self) -> int:
        """Tokens that room is kept for in them."""
        return self._open.tokens

    @property
    def kept_answers(self) -> int:
        """Answers remembered for retries."""
        return self._kept.members

    def find(self, key: GroupKey) -> Group[Content, Answer] | None:
        """Return the group of `key` as it is now; to look at, not to change."""
        return self._open.get(key) or self._kept.get(key)

    @property
    def next_event(self) -> float | None:
        """When `tick` has something to do, if nothing else happens first."""
        times = [
            self._deadlines.next,
            None if self._open.oldest is None else self._open.oldest.touched + self.limits.idle_s,
            None if self._kept.oldest is None else self._kept.oldest.touched + self.limits.keep_s,
        ]
        return min((time for time in times if time is not None), default=None)

    # --- events ------------------------------------------------------------------------------------------

    def join(
        self, submission: MemberSubmission[Content], reply: Callable[[Answer | OperaError], None]
    ) -> Waiter[Content, Answer]:
        """Give a member its place, or find it again, and let its caller wait.

        `reply` is called once with the answer or an error, perhaps at once, unless `leave` comes first.

        Raises:
            InvalidRequest: it contradicts the group in the named field.
            MemberConflict: the member is known with another content, or the group has all its members.
            Overloaded: no room for another group, or for so large a member.
        """
        now = self._clock()
        self._forget(now)
        opened = Group[Content, Answer](
            submission.key, submission.size, submission.on_timeout, submission.shared, now, submission.sender
        )
        group = self.find(submission.key) or opened
        _check_agreement(group, submission)
        member = group.members.get(submission.member_id)
        if member is None:
            member = self._admit(group, submission, now)
        elif member.fingerprint != submission.fingerprint:
            raise MemberConflict(
                f"member {member.id!r} of group {group.key.group_id!r} came before with another content; "
                "give every sample a member_id of its own",
                field="member_id",
            )
        else:
            self.counts.duplicates += 1
        waiter = Waiter(group, member, now + submission.wait_s, reply)
        if member.answer is not None:
            self._answer(waiter, member.answer)
            return waiter
        member.waiters.append(waiter)
        self._deadlines.push(waiter)
        self._open.touch(group, now)
        if group.full or group.answered is not None:
            self._ready[group.key] = group
        return waiter

    def leave(self, waiter: Waiter[Content, Answer]) -> None:
        """The caller is gone; its member keeps its place."""
        if not waiter.done:
            self._release(waiter)
            self._open.touch(waiter.group, self._clock())

    def tick(self) -> list[GroupBatch[Content, Answer]]:
        """Let time pass: end waits, forget what is old, and return the batches to score now."""
        now = self._clock()
        for waiter in self._deadlines.pop_due(now):
            group = waiter.group
            if group.on_timeout == "partial":
                self._ready[group.key] = group
            elif not group.scoring and group.key not in self._ready:
                self.counts.incomplete += 1
                self._answer(waiter, _incomplete(group))
                self._open.touch(group, now)
        self._forget(now)
        due = [group for group in self._ready.values() if not group.scoring]
        self._ready.clear()
        return [self._start(group) for group in due if group.fresh]

    def close(self, batch: GroupBatch[Content, Answer], outcome: Mapping[str, Answer] | OperaError) -> None:
        """End a batch with an answer for each of its fresh members, or with the error that goes to all who wait.

        After an error the members keep their places: the next to come back starts the group's scoring afresh.
        """
        now, group = self._clock(), batch.group
        group.scoring = False
        if not isinstance(outcome, OperaError) and not batch.fresh <= outcome.keys():
            outcome = InternalError("the group was scored but not all of its members; report this")
        if isinstance(outcome, OperaError):
            self.counts.failed += 1
            for waiter in group.waiters:
                self._answer(waiter, outcome)
            self._open.touch(group, now)
            return
        self._count(batch)
        group.answered = now
        for name in (name for name in batch.members if name in batch.fresh):  # in order of submission
            member = group.members[name]
            member.answer = outcome[name]
            for waiter in list(member.waiters):
                self._answer(waiter, outcome[name])
        if group.fresh:
            self._ready[group.key] = group
            self._open.touch(group, now)
        else:
            self._keep(group, now)

    def refuse_all(self, error: OperaError) -> None:
        """Send `error` to all who wait for a group that is not being scored; the service is going away."""
        for group in self._open:
            if not group.scoring:
                for waiter in group.waiters:
                    self._answer(waiter, error)

    # --- rules -------------------------------------------------------------------------------------------

    def _admit(
        self, group: Group[Content, Answer], submission: MemberSubmission[Content], now: float
    ) -> Member[Content, Answer]:
        """Add a new member to `group`, if the group and the limits have room for it."""
        if group.full:
            raise MemberConflict(
                f"group {group.key.group_id!r} has all its {group.size} members; is group_size right, "
                "and is group_id new for every prompt and step?",
                field="member_id",
            )
        self._make_room(group, submission, now)
        member = Member[Content, Answer](
            submission.member_id, submission.fingerprint, submission.tokens, submission.content
        )
        group.members[member.id] = member
        group.held_tokens += member.tokens
        group.largest = max(group.largest, member.tokens)
        self._kept.remove(group.key)
        if not len(self._open):
            self._places.begun(now)
        self._open.put(group, group.size, group.claim(), now)
        return member

    def _make_room(self, group: Group[Content, Answer], submission: MemberSubmission[Content], now: float) -> None:
        """Raise `Overloaded` when there is none, also where nobody waits any more."""
        while True:
            try:
                self._places.must_fit(group, submission.tokens, now)
            except (Overloaded, InvalidRequest) as error:
                idle = self._places.idle(now) if isinstance(error, Overloaded) else None
                if idle is None or idle is group:
                    self.counts.refused += 1
                    raise
                self._expire(idle, now)
            else:
                return

    def _start(self, group: Group[Content, Answer]) -> GroupBatch[Content, Answer]:
        group.scoring = True
        kind: Kind = "late" if group.answered is not None else "complete" if group.full else "partial"
        contents = {member.id: member.content for member in group.members.values() if member.content is not None}
        return GroupBatch(group, kind, contents, frozenset(member.id for member in group.fresh))

    def _count(self, batch: GroupBatch[Content, Answer]) -> None:
        if batch.kind == "complete":
            self.counts.complete += 1
        elif batch.kind == "partial":
            self.counts.partial += 1
        else:
            self.counts.late += len(batch.fresh)

    def _keep(self, group: Group[Content, Answer], now: float) -> None:
        """Remember the answers; of a full group nothing else can be needed again."""
        self._close(group, now)
        if group.full:
            group.shared, group.held_tokens = {}, 0
            for member in group.members.values():
                member.content = None
        answers = sum(self._weigh(member.answer) for member in group.members.values() if member.answer is not None)
        self._kept.put(group, len(group.members), group.held_tokens + answers, now)
        while self._kept.members > self.limits.max_answers or self._kept.tokens > self.limits.max_tokens:
            self._kept.remove_oldest()

    def _forget(self, now: float) -> None:
        """Drop answers kept long enough, and groups that nobody has waited for in a while."""
        while (kept := self._kept.oldest) is not None and kept.touched + self.limits.keep_s <= now:
            self._kept.remove(kept.key)
        while (group := self._open.oldest) is not None and group.touched + self.limits.idle_s <= now:
            if group.scoring or group.waiters:
                self._open.touch(group, now)
            else:
                self._expire(group, now)

    def _expire(self, group: Group[Content, Answer], now: float) -> None:
        self._close(group, now)
        self._ready.pop(group.key, None)
        self.counts.expired += 1

    def _close(self, group: Group[Content, Answer], now: float) -> None:
        """Make room: nobody waits for the group any more."""
        self._open.remove(group.key)
        self._places.left(now)

    def _answer(self, waiter: Waiter[Content, Answer], outcome: Answer | OperaError) -> None:
        self._release(waiter)
        waiter.member.delivered |= not isinstance(outcome, OperaError)
        waiter.reply(outcome)

    @staticmethod
    def _release(waiter: Waiter[Content, Answer]) -> None:
        waiter.done = True
        if waiter in waiter.member.waiters:
            waiter.member.waiters.remove(waiter)


def _check_agreement(group: Group[Content, Answer], submission: MemberSubmission[Content]) -> None:
    """Refuse a member that describes its group in another way than the first one did."""
    told: dict[str, tuple[object, object]] = {
        "group_size": (group.size, submission.size),
        "on_timeout": (group.on_timeout, submission.on_timeout),
    }
    told |= {name: (value, submission.shared.get(name)) for name, value in group.shared.items()}
    for name, (first, now) in told.items():
        if first != now:
            shown = f" ({first!r}, now {now!r})" if isinstance(first, int) else ""
            raise InvalidRequest(
                f"differs from what the first member of group {group.key.group_id!r} said{shown}; "
                "all members of a group share it",
                field=name,
            )


def _incomplete(group: Group[Content, Answer]) -> GroupIncomplete:
    return GroupIncomplete(
        f"{len(group.members)} of {group.size} members of group {group.key.group_id!r} came in time; send this "
        "member again to go on waiting (it keeps its place), wait longer, or use on_timeout=partial"
    )
