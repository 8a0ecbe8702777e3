"""How errors call the fields of a group: by their place in the request, or plainly for a lone member."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GroupPath:
    """The names of one group's fields."""

    index: int | None
    """The group's position in its request; None for a member's request, which holds one trajectory and no list."""

    def field(self, name: str) -> str:
        """Return the path of what all trajectories share, such as `reference`."""
        return name if self.index is None else f"groups.{self.index}.{name}"

    def trajectory(self, position: int) -> str:
        return "response" if self.index is None else f"groups.{self.index}.trajectories.{position}"

    def response(self, position: int) -> str:
        """Return the path of a trajectory's response."""
        return "response" if self.index is None else f"{self.trajectory(position)}.response"

    def own(self, position: int, name: str) -> str:
        """Return the path of one of a trajectory's own fields, such as `turns`."""
        return name if self.index is None else f"{self.trajectory(position)}.{name}"


MEMBER = GroupPath(None)
