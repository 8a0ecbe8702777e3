"""Rows of a trainer's batch become whole groups: by blocks where rows are adjacent, by prompt where not.

Knows the shape of the wire's groups; no trainer, no network, no ranks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from opera_adapters._texts import Conversation, Tags, text_of
from opera_client import Group
from opera_client.wire import first_problem, texts_of


@dataclass(frozen=True)
class Row:
    """One completion: what its group is asked, and what was written."""

    question: Mapping[str, Any]
    """Fields of a wire `Group`, without trajectories: equal in all rows of a group."""
    trajectory: Mapping[str, Any]
    """Fields of a wire `Trajectory`."""
    problem: str | None = None
    """Why the row cannot be sent."""
    spoken: Conversation | None = None
    """The completion, where its thought has a field of its own: only the service knows the model's tags, and until
    it was asked the response has the usual ones."""

    @cached_property
    def key(self) -> str:
        """What rows of one group have in common."""
        return json.dumps(self.question, sort_keys=True, default=str)

    def in_tags(self, tags: Tags) -> Row:
        """Return the row with its thought in `tags`."""
        if self.spoken is None:
            return self
        return replace(self, trajectory={**self.trajectory, "response": text_of(self.spoken, tags)})

    def checked(self) -> Row:
        """Return the row, its problem filled in when the wire would refuse it, or a reference it names is none."""
        try:
            group = Group.model_validate({**self.question, "trajectories": [self.trajectory]})
        except ValidationError as error:
            where, said = first_problem(error, Group)
            return Row({}, self.trajectory, f"{where or 'row'}: {said}")
        if "reference" not in self.question:
            return self
        if any(not text.strip() for text in texts_of(group.reference)):
            return Row(self.question, self.trajectory, "reference: is empty; name the place of the known answer")
        if group.reference is None and group.reference_token_ids is None:
            return Row({}, self.trajectory, "reference: is missing; fill it in, or leave the row out")
        return replace(self, question={**self.question, "reference": group.reference})


def groups(rows: Sequence[Row], size: int | None) -> list[list[int]]:
    """Return the positions of each group's rows; every row is in exactly one group.

    Adjacent blocks of `size` rows are groups, even when two neighbours ask the same. Where a block mixes questions
    (trainers that list all first answers, then all second ones), and where `size` is unknown, rows that ask the
    same are a group, cut to `size`.
    """
    if size is not None and len(rows) % size == 0:
        blocks = [list(range(start, start + size)) for start in range(0, len(rows), size)]
        if all(rows[block[0]].question == rows[at].question for block in blocks for at in block):
            return blocks
    same: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        same.setdefault(row.key, []).append(at)
    return [part for places in same.values() for part in _cut(places, size or len(places))]


def _cut(places: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(places), size):
        yield list(places[start : start + size])


def wire_group(name: str, rows: Sequence[Row]) -> Group:
    """Return the group of rows that can be sent; trajectory ids are positions in `rows`."""
    trajectories = [{"id": str(at), **row.trajectory} for at, row in enumerate(rows) if row.problem is None]
    return Group.model_validate({"group_id": name, **rows[0].question, "trajectories": trajectories})
