"""Who may open a group: the bounds of what gathers, shared between runs, and when a refused member may come again.

A run may hold no more than `_SHARE` times what is free (Choudhury and Hahne's dynamic threshold, 1998): one alone
gets four fifths, two get four ninths each, and there is always something left for the next one. So a run whose
groups never complete, for a wrong group_size say, fills its own share and nobody else's.

Where keys are asked for, a key may hold as much in all its runs: made-up run ids get no more than four fifths.
What the key holds counts in each of its runs, too: one run alone gets two thirds, which leaves room for the key's
others.

Pure decisions on an index; dropping groups is the state's business.
"""

from __future__ import annotations

from typing import Generic

from opera_client.errors import InvalidRequest, Overloaded
from opera_service.groups.group import Answer, Content, Group
from opera_service.groups.limits import GroupLimits
from opera_service.groups.lru_index import LruIndex
from opera_service.retry_after import DrainRate, seconds_to_wait

_SHARE = 4
_LOOK_S = 1.0
"""Between two vain searches for groups that nobody waits for: refusing must stay cheap."""


class Places(Generic[Content, Answer]):
    """The room that open groups take and leave, and how fast they leave it."""

    def __init__(self, limits: GroupLimits, opened: LruIndex[Content, Answer], now: float) -> None:
        self._limits, self._open = limits, opened
        self._drain = DrainRate()
        """Groups answered or given up, per second that some were waiting."""
        self._drained_at = now
        self._look_again = now

    def begun(self, now: float) -> None:
        """A group opens where there was none: from now on the pace is measured."""
        self._drained_at = now

    def left(self, now: float) -> None:
        """A group was answered or given up."""
        self._drain.add(1, now - self._drained_at)
        self._drained_at = now

    def must_fit(self, group: Group[Content, Answer], tokens: int, now: float) -> None:
        """Raise `Overloaded` unless a member of `tokens` fits into `group`, `InvalidRequest` if it never could."""
        limits, claim = self._limits, group.claim(tokens)
        if group.size > limits.max_members or claim > limits.max_tokens:
            raise InvalidRequest(
                f"{group.size} members like this one take {claim} tokens; this service gathers at most "
                f"{limits.max_members} members and {limits.max_tokens} tokens at a time; use /reward",
                field="group_size",
            )
        held = self._open.without(group.key)
        wanted = (1, group.size, claim)
        most = (limits.max_groups, limits.max_members, limits.max_tokens)
        over = max(
            held[0] * (there + more - bound) / max(there, 1)
            for there, more, bound in zip(held, wanted, most, strict=True)
        )
        if any(there + more > bound for there, more, bound in zip(held, wanted, most, strict=True)):
            raise self._refusal(
                "groups",
                f"{len(self._open)} groups are waiting for members, which is all that fits; come back later, "
                "or send the members of a group closer together",
                max(over, held[0] + 1 - limits.max_groups),
                now,
            )
        if self._open.get(group.key) is None:
            self._must_be_fair(
                group, wanted, [bound - there for there, bound in zip(held, most, strict=True)], now
            )

    def idle(self, now: float) -> Group[Content, Answer] | None:
        """Return a group that nobody waits for, and whose callers had their time to come again."""
        if now < self._look_again:
            return None
        for group in self._open:
            if group.touched + self._limits.retry_s > now:
                break
            if not group.scoring and not group.waiters:
                return group
        self._look_again = now + _LOOK_S
        return None

    def _must_be_fair(
        self, group: Group[Content, Answer], wanted: tuple[int, int, int], free: list[int], now: float
    ) -> None:
        def fits(*held: tuple[int, int, int]) -> bool:
            taken = (sum(each) for each in zip(*held, wanted, strict=True))
            return all(own <= _SHARE * room for own, room in zip(taken, free, strict=True))

        of_key = self._open.of_sender(group) if group.sender else (0, 0, 0)
        if group.sender and not fits(of_key):
            raise self._refusal(
                "group_share",
                f"{of_key[0]} groups sent with this key wait for members, and what is left is for other keys",
                1.0,
                now,
            )
        own = self._open.of_run(group)
        if fits(of_key, own):
            return
        oldest = self._open.oldest_of_run(group)
        raise self._refusal(
            "group_share",
            f"{own[0]} groups of this run wait for members, and what is left is for other runs; the one that has "
            f"waited longest has {len(oldest.members)} of its {oldest.size} members: is group_size right?",
            1.0,
            now,
        )

    def _refusal(self, reason: str, why: str, over: float, now: float) -> Overloaded:
        waiting = max(now - self._drained_at, 0.0)
        rate = self._drain.per_second(seconds=waiting)
        if rate is None:  # nothing has left yet: as long again as nothing did
            rate = 1.0 / waiting if waiting else None
        wait = seconds_to_wait(over, rate)
        if (oldest := self._open.oldest) is not None and not oldest.waiters and not oldest.scoring:
            wait = min(wait, seconds_to_wait(oldest.touched + self._limits.retry_s - now, 1.0))
        error = Overloaded(why)
        error.reason, error.retry_after = reason, wait
        return error
