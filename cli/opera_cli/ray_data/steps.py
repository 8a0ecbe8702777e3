"""What workers do with a chunk: look through it, turn it into rows to be gathered, score it, count what is there.

Plain functions and one class, handed to Ray Data; every one may be repeated. They know no Ray.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

from opera_cli.batch import Asking, Tally, answers, model_of
from opera_cli.ray_data.chunks import BadLine, Chunk
from opera_cli.ray_data.parts import Parts
from opera_cli.score_job import asking, failed
from opera_cli.source import digest, has_reference, joined, key_of, must_be_group, shared_of
from opera_cli.target import Target
from opera_client import AsyncRewardClient, Group, OperaError
from opera_client._portal import Portal
from opera_client.errors import BadInput

Row = dict[str, Any]
"""What travels between steps: flat, of plain types."""


def look(row: Row) -> Row:
    """Check a chunk's lines and count them: groups, flat rows, and lines as an editor counts them.

    `without_reference` is the number of the first line without one; 0 where all have one.
    """
    chunk = Chunk(**json.loads(row["chunk"]))
    groups = flat = 0
    problem, at = "", 0
    without = 0
    try:
        for number, line in _checked(chunk):
            groups, flat = groups + ("trajectories" in line), flat + ("trajectories" not in line)
            without = without or (0 if has_reference(line) else number)
    except BadLine as error:
        problem, at = error.what, error.number
    return {
        "index": chunk.index, "lines": chunk.count(), "groups": groups, "flat": flat, "problem": problem, "at": at,
        "without_reference": without,
    }  # fmt: skip


def rows(row: Row) -> list[Row]:
    """Return a chunk's lines with the key of their group and their place in the data set."""
    chunk, first = Chunk(**json.loads(row["chunk"])), row["first"]
    found = []
    for at, (_, line) in enumerate(_checked(chunk), start=first):
        key = key_of(line).hex() if "trajectories" not in line else f"whole {at}"
        found.append({"key": key, "place": at, "line": json.dumps(line)})
    return found


def gather(batch: Mapping[str, Any]) -> Mapping[str, list[Any]]:
    """Turn the rows of one group into its line, at the place of the first; `problem` says why that cannot be."""
    places, texts = list(map(int, batch["place"])), list(batch["line"])
    ordered = [json.loads(text) for _, text in sorted(zip(places, texts, strict=True))]
    group = ordered[0] if "trajectories" in ordered[0] else joined(ordered)
    ids = [str(place if row.get("id") is None else row["id"]) for place, row in enumerate(ordered)]
    problem = ""
    if len({shared_of(row) for row in ordered}) > 1:
        problem = "rows of one group with another prompt, reference or task; give them different `group_id`s"
    elif len(set(ids)) < len(ids):
        problem = "an id appears twice in its group (without an id it is the position); make ids unique"
    return {"place": [min(places)], "line": [json.dumps(group)], "problem": [problem]}


def count(row: Row, folder: str) -> Row:
    """Count the results of a chunk that an earlier run left."""
    tally = Tally("trajectories")
    groups = 0
    for groups, record in enumerate(Parts(Path(folder)).read(row["index"]), start=1):  # noqa: B007
        tally.add(record["trajectories"])
    return _counted(row["index"], groups, tally)


class Scorer:
    """One engine, in the worker's own process; scores chunk after chunk."""

    def __init__(self, settings: dict[str, Any], target: Target, folder: str) -> None:
        self._settings, self._target, self._parts = settings, target, Parts(Path(folder))
        self._portal, self._stack = Portal(), AsyncExitStack()
        self._client: AsyncRewardClient | None = None

    def __call__(self, row: Row) -> Row:
        """Score a chunk and keep its results. What ends the whole command is in `problem`."""
        try:
            return self._portal.run(lambda: self._score(Chunk(**json.loads(row["chunk"])), row["first"]))
        except (OperaError, BadInput) as error:
            message = error.message if isinstance(error, OperaError) else str(error)
            return {"index": row["index"], "groups": 0, "scored": 0, "errors": "{}", "problem": message}

    def close(self) -> None:
        """Free the engine; Ray ends its workers without asking."""
        self._portal.run(self._stack.aclose)
        self._portal.stop()

    async def _score(self, chunk: Chunk, first: int) -> Row:
        if self._client is None:
            self._client = await self._stack.enter_async_context(self._target.opened())
        client, model = self._client, await model_of(self._client)
        run = {**self._settings, "model": model}
        self._parts.agree("run", run)
        lines = enumerate((line for _, line in chunk.lines()), start=first)
        groups = [Group.model_validate({"group_id": str(at)} | line) for at, line in lines]

        tally, records = Tally("trajectories"), []
        answering = answers(
            Asking(asking(self._settings), failed),
            client,
            groups,
            model["weight_version"],
            concurrency=self._target.concurrency,
        )
        async with aclosing(answering) as stream:
            async for group, record in stream:
                tally.add(record["trajectories"])
                records.append({"input": digest(group), "run": run, **record})
        await asyncio.to_thread(self._parts.write, chunk.index, records)
        return _counted(chunk.index, len(records), tally)


def _checked(chunk: Chunk) -> Iterator[tuple[int, Row]]:
    for number, line in chunk.lines():
        try:
            must_be_group(line)
        except ValueError as error:
            raise BadLine(number, str(error)) from None
        yield number, line


def _counted(index: int, groups: int, tally: Tally) -> Row:
    errors = json.dumps(tally.errors)
    return {"index": index, "groups": groups, "scored": tally.scored, "errors": errors, "problem": ""}
