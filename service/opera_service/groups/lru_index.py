"""Groups in the order they were last touched, with the room they take.

Knows keys and sums; when a group comes or goes is the state's decision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from operator import add
from typing import Generic

from opera_service.groups.group import Answer, Content, Group, GroupKey


class LruIndex(Generic[Content, Answer]):
    """A mapping key -> group, oldest first, that counts places and tokens."""

    def __init__(self) -> None:
        self._entries: OrderedDict[GroupKey, tuple[Group[Content, Answer], int, int]] = OrderedDict()
        self._shares: dict[tuple[str, str, str | None], tuple[int, int, int]] = {}
        self.members = 0
        """Places of all groups."""
        self.tokens = 0
        """Tokens of all groups."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: GroupKey) -> Group[Content, Answer] | None:
        """Return the group of `key`, if it is here."""
        entry = self._entries.get(key)
        return entry[0] if entry else None

    def put(self, group: Group[Content, Answer], members: int, tokens: int, now: float) -> None:
        """Put `group` at the young end, or back there, taking this much room from now on."""
        self.remove(group.key)
        group.touched = now
        self._entries[group.key] = (group, members, tokens)
        self.members += members
        self.tokens += tokens
        self._add(group, 1, members, tokens)

    def touch(self, group: Group[Content, Answer], now: float) -> None:
        """Move `group`, which must be here, to the young end."""
        group.touched = now
        self._entries.move_to_end(group.key)

    def remove(self, key: GroupKey) -> None:
        """Take the group away, if it is here."""
        if entry := self._entries.pop(key, None):
            self.members -= entry[1]
            self.tokens -= entry[2]
            self._add(entry[0], -1, -entry[1], -entry[2])

    def of_run(self, group: Group[Content, Answer]) -> tuple[int, int, int]:
        """Return groups, places and tokens of the group's run; two senders' runs of one name are two."""
        return self._shares.get(_run(group), (0, 0, 0))

    def of_sender(self, group: Group[Content, Answer]) -> tuple[int, int, int]:
        """Return groups, places and tokens of the group's sender, in all runs."""
        return self._shares.get(_sender(group), (0, 0, 0))

    def oldest_of_run(self, group: Group[Content, Answer]) -> Group[Content, Answer]:
        """Return the oldest of the group's run; raises StopIteration where there is none."""
        return next(one for one in self if _run(one) == _run(group))

    def _add(self, group: Group[Content, Answer], *more: int) -> None:
        for name in (_run(group), _sender(group)):
            groups, members, tokens = map(add, self._shares.get(name, (0, 0, 0)), more)
            if groups:
                self._shares[name] = groups, members, tokens
            else:
                self._shares.pop(name, None)

    def __iter__(self) -> Iterator[Group[Content, Answer]]:
        return (group for group, _, _ in self._entries.values())

    def without(self, key: GroupKey) -> tuple[int, int, int]:
        """Return groups, places and tokens of all groups but the one of `key`."""
        entry = self._entries.get(key)
        if entry is None:
            return len(self), self.members, self.tokens
        return len(self) - 1, self.members - entry[1], self.tokens - entry[2]

    def remove_oldest(self) -> None:
        """Take the group away that was touched longest ago; there must be one."""
        self.remove(next(iter(self._entries)))

    @property
    def oldest(self) -> Group[Content, Answer] | None:
        """The group that was touched longest ago."""
        return next(iter(self._entries.values()))[0] if self._entries else None


def _run(group: Group[Content, Answer]) -> tuple[str, str, str | None]:
    return "run", group.sender, group.key.run_id


def _sender(group: Group[Content, Answer]) -> tuple[str, str, str | None]:
    return "sender", group.sender, None
