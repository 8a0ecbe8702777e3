"""Places for members whose callers send no ids: told apart by what they say and when they come.

The first member with room in no group opens the next one. What looks like a retry (the same content again, while
nobody waits for it and nobody took its answer) gets its old place. It knows keys and fingerprints.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Generic

from opera_service.groups.group import Answer, Content, Group, GroupKey, MemberSubmission
from opera_service.groups.state import Clock, GroupState


class AnonymousMembers(Generic[Content, Answer]):
    """Numbers the groups of all keys, in order of opening; a number is never used again."""

    def __init__(self, state: GroupState[Content, Answer], clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._numbers: dict[GroupKey, list[int]] = {}
        """Groups of each key that a member may still be for, oldest first."""
        self._next = count()
        self._sweep_at = 64

    def __len__(self) -> int:
        """Groups that a member may still be for."""
        return sum(map(len, self._numbers.values()))

    def place(self, submission: MemberSubmission[Content]) -> MemberSubmission[Content]:
        """Return `submission` with the number of its group and a member id; `join` it before placing another.

        A group that was answered in part takes late members for another `wait_s`; after that, equal keys mean
        the prompt has come round again.
        """
        groups = self._groups(submission.key)
        for group in groups:
            for member in group.members.values():
                if member.fingerprint == submission.fingerprint and not member.waiters and not member.delivered:
                    return replace(submission, key=group.key, member_id=member.id)
        for group in groups:
            fits = group.size == submission.size and not group.full
            if fits and (group.answered is None or self._clock() < group.answered + submission.wait_s):
                return replace(submission, key=group.key, member_id=str(len(group.members)))
        number = next(self._next)
        self._numbers.setdefault(submission.key, []).append(number)
        return replace(submission, key=submission.key._replace(number=number), member_id="0")

    def _groups(self, key: GroupKey) -> list[Group[Content, Answer]]:
        if len(self._numbers) >= self._sweep_at:
            for other in list(self._numbers):
                self._held(other)
            self._sweep_at = max(64, 2 * len(self._numbers))
        return self._held(key)

    def _held(self, key: GroupKey) -> list[Group[Content, Answer]]:
        """Return the groups of `key` that somebody may still come for, and forget the others."""
        found = (self._state.find(key._replace(number=number)) for number in self._numbers.get(key, []))
        groups = [group for group in found if group is not None and not group.over]
        if groups:
            self._numbers[key] = [group.key.number for group in groups]
        else:
            self._numbers.pop(key, None)
        return groups
