"""The input of `score` and `rank` as typed items, addressed by position and checked before anything is asked.

A first pass checks every line and keeps only byte offsets; texts are read again when their turn comes, so a
file of any size needs memory for its line numbers alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from opera_cli.exits import say
from opera_client._parse import item_of
from opera_client.errors import BadInput, InvalidRequest
from opera_client.files.lines import Lines
from opera_client.wire import Group, RankItem

Item = TypeVar("Item", Group, RankItem)
Item_co = TypeVar("Item_co", Group, RankItem, covariant=True)

_SHARED = ("group_id", "task", "prompt", "prompt_token_ids", "reference", "reference_token_ids")
_ANNOTATIONS = ("grade", "finish_reason")
"""What `check` reads beside a trajectory, and nothing else does."""
_OWN = ("id", "response", "response_token_ids", "response_mask", "turns")


class Source(Protocol[Item_co]):
    """Items by position; each has an id."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Item_co: ...

    def close(self) -> None: ...


def items(source: Source[Item], start: int) -> Iterator[Item]:
    """Yield the items from a position on."""
    return (source[position] for position in range(start, len(source)))


def digest(item: Group | RankItem) -> str:
    """Return 16 hex digits that name the content of an item."""
    return hashlib.sha256(item.model_dump_json(exclude_none=True).encode()).hexdigest()[:16]


class GroupSource:
    """Groups: a line is one group, or one trajectory of the flat form.

    Flat rows belong together by `group_id`, else by prompt; they need not be neighbours, and a group has the
    place of its first row. Rows of one group must agree on prompt, reference and task.
    """

    def __init__(self, path: Path) -> None:
        """Check the whole file. Raises `BadInput` that names the line."""
        self._lines = Lines(path)
        self._offsets: list[list[int]] = []
        self._flat: dict[bytes, tuple[int, int, bytes]] = {}
        self._ids: set[int] = set()
        self.without_reference: int | None = None
        """The number of the first such line."""
        ignored: set[str] = set()
        for number, offset, line in self._lines.scan():
            nested = "trajectories" in line
            if self.without_reference is None and not has_reference(line):
                self.without_reference = number
            ignored |= line.keys() - (Group.model_fields.keys() if nested else {*_SHARED, *_OWN})
            if nested:
                _checked(self._lines, number, Group, _known(line, Group), "")
                self._offsets.append([offset])
            else:
                self._add_row(number, offset, line)
        _not_empty(self._lines, len(self._offsets))
        if ignored:
            say(f"{self._lines.name}: fields that are not used: {', '.join(sorted(ignored))}")
        self._flat.clear()
        self._ids.clear()

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, position: int) -> Group:
        """Return a group; one without `group_id` is named by its position."""
        rows = [self._lines.at(offset) for offset in self._offsets[position]]
        group = _known(rows[0], Group) if "trajectories" in rows[0] else joined(rows)
        return Group.model_validate({"group_id": str(position)} | group)

    def must_have_references(self, reward: str) -> None:
        """Raise `BadInput` that names the first line without one."""
        if self.without_reference is not None:
            raise self._lines.wrong(self.without_reference, reference_needed(reward))

    def close(self) -> None:
        self._lines.close()

    def _add_row(self, number: int, offset: int, row: dict[str, Any]) -> None:
        _checked(self._lines, number, Group, joined([row]), "trajectories.0.")
        key, shared = key_of(row), shared_of(row)
        position, first, expected = self._flat.setdefault(key, (len(self._offsets), number, shared))
        if position == len(self._offsets):
            self._offsets.append([])
        elif shared != expected:
            raise self._lines.wrong(
                number,
                f"same group as {self._lines.unit} {first}, but another prompt, reference or task; "
                "give different groups different `group_id`s",
            )
        name = str(len(self._offsets[position]) if row.get("id") is None else row["id"])
        own = hash((position, name))
        if own in self._ids:
            raise self._lines.wrong(
                number,
                f"id {name!r} appears twice in its group (without an id it is the position); make ids unique",
            )
        self._ids.add(own)
        self._offsets[position].append(offset)


class RankSource:
    """Rank items, one a line in the form of the wire."""

    def __init__(self, path: Path) -> None:
        """Check the whole file. Raises `BadInput` that names the line."""
        self._lines = Lines(path)
        self._offsets: list[int] = []
        ignored: set[str] = set()
        for number, offset, line in self._lines.scan():
            ignored |= line.keys() - RankItem.model_fields.keys()
            _checked(self._lines, number, RankItem, _known(line, RankItem), "")
            self._offsets.append(offset)
        _not_empty(self._lines, len(self._offsets))
        if ignored:
            say(f"{path}: fields that are not used: {', '.join(sorted(ignored))}")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, position: int) -> RankItem:
        """Return an item; one without `id` is named by its position."""
        return RankItem.model_validate(
            {"id": str(position)} | _known(self._lines.at(self._offsets[position]), RankItem)
        )

    def close(self) -> None:
        self._lines.close()


def key_of(row: dict[str, Any]) -> bytes:
    """Return what the flat rows of one group have in common: `group_id`, else the prompt."""
    named = _name(row.get("group_id"))
    return _hash(named if named is not None else [row.get("prompt"), row.get("prompt_token_ids")], named is None)


def reference_needed(reward: str) -> str:
    """Return what is wrong with a line that has no reference."""
    return (
        f"{reward} needs a reference: give `reference` or `reference_token_ids`, or choose a --reward that"
        " does without (docs/rewards.md lists them)"
    )


def has_reference(line: dict[str, Any]) -> bool:
    """Whether a line has a reference, as text or as ids."""
    return line.get("reference") is not None or line.get("reference_token_ids") is not None


def _known(line: dict[str, Any], kind: type[Group] | type[RankItem]) -> dict[str, Any]:
    """Return a line without columns that nobody uses, and without what only `check` reads."""
    known = {name: value for name, value in line.items() if name in kind.model_fields}
    given = known.get("trajectories")
    if isinstance(given, list):
        known["trajectories"] = [
            {name: value for name, value in one.items() if name not in _ANNOTATIONS}
            if isinstance(one, dict)
            else one
            for one in given
        ]
    return known


def shared_of(row: dict[str, Any]) -> bytes:
    """Return what the flat rows of one group must agree on."""
    return _hash([_name(row.get(name)) if name == "group_id" else row.get(name) for name in _SHARED], True)


def _name(given: object) -> object:
    """Return a name as the wire reads it: whole numbers are names, too."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the group of flat rows."""
    shared = {name: rows[0][name] for name in _SHARED if name in rows[0]}
    return shared | {"trajectories": [{name: row[name] for name in _OWN if name in row} for row in rows]}


def must_be_group(line: dict[str, Any]) -> None:
    """Raise `ValueError` that says what is wrong with a line, be it a group or a flat row."""
    flat = "trajectories" not in line
    _must_be(Group, joined([line]) if flat else _known(line, Group), "trajectories.0." if flat else "")


def _must_be(kind: type[Item], line: dict[str, Any], hidden: str) -> None:
    try:
        item_of(kind, line, "")
    except InvalidRequest as error:
        field = f" (field {error.field.removeprefix(hidden)})" if error.field else ""
        raise ValueError(f"{error.message}{field}") from None


def _checked(lines: Lines, number: int, kind: type[Item], line: dict[str, Any], hidden: str) -> None:
    try:
        _must_be(kind, line, hidden)
    except ValueError as error:
        raise lines.wrong(number, str(error)) from None


def _not_empty(lines: Lines, count: int) -> None:
    if not count:
        raise BadInput(f"{lines.name} is empty; one JSON object a line is needed")


def _hash(value: object, tag: bool) -> bytes:
    return hashlib.sha256(json.dumps([tag, value], sort_keys=True).encode()).digest()[:16]
