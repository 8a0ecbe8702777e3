"""The loop behind `score` and `rank`: asks item by item, in order, and keeps every answer as soon as it is there.

One request an item: the service batches concurrent requests by itself, and a failure stays with its item.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic

from opera_cli.exits import Exit, say
from opera_cli.outputs import Output
from opera_cli.source import Item, Source, digest, items
from opera_cli.target import Target
from opera_client import AsyncRewardClient
from opera_client._chunks import in_order
from opera_client._progress import progress_bar
from opera_client.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    EngineFailed,
    EngineOutOfMemory,
    InternalError,
    OperaError,
)
from opera_client.files.journal import Record

OF_THE_ITEM = (BodyTooLarge, DeadlineExceeded, EngineFailed, EngineOutOfMemory, InternalError)
"""Failures of a whole request that say nothing about the next one: recorded, and the work goes on."""


@dataclass(frozen=True)
class Asking(Generic[Item]):
    """What to ask about an item."""

    ask: Callable[[AsyncRewardClient, Item, str], Awaitable[Record]]
    """Given client, item and weight version, return the result."""
    failed: Callable[[Item, OperaError], Record]
    """The result of an item whose request failed."""


@dataclass(frozen=True)
class Job(Asking[Item]):
    """What to ask about each item of a source."""

    name: str
    source: Source[Item]
    run: dict[str, Any]
    """Everything but the model that the numbers depend on."""
    check: Callable[[AsyncRewardClient], Awaitable[None]] | None = None
    """Raises `BadInput` where the service could not answer for the source; called before anything is asked."""


@dataclass
class Tally:
    """What came out, counted for the last line and the exit code."""

    unit: str
    scored: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, parts: list[dict[str, Any]]) -> None:
        """Count the trajectories (candidates) of one record."""
        for part in parts:
            if part["status"] == "ok":
                self.scored += 1
            else:
                self.errors[part["error"]["code"]] += 1

    @property
    def code(self) -> Exit:
        return Exit.SOME_FAILED if self.errors else Exit.OK

    def line(self, items: int, seconds: float) -> str:
        failed = ", ".join(f"{count} {code}" for code, count in self.errors.most_common())
        tail = f", {self.errors.total()} failed ({failed})" if failed else ""
        return f"{items} done in {seconds:.1f} s: {self.scored} {self.unit} scored{tail}"


def error_of(error: OperaError) -> dict[str, Any]:
    """Return an error as it stands in a record."""
    return {name: value for name, value in error.body().items() if value is not None}


async def model_of(client: AsyncRewardClient) -> dict[str, str]:
    """Return what the numbers depend on beside the request."""
    served = await client.model()
    return {name: getattr(served, name) for name in ("name", "revision", "weight_version", "dtype", "engine")}


async def answers(
    job: Asking[Item], client: AsyncRewardClient, todo: Iterable[Item], weight_version: str, *, concurrency: int
) -> AsyncGenerator[tuple[Item, Record], None]:
    """Yield every item with its result, in order; a failure of one item is its result, and the work goes on."""

    async def answer(item: Item) -> tuple[Item, Record]:
        try:
            return item, await job.ask(client, item, weight_version)
        except OF_THE_ITEM as error:
            return item, job.failed(item, error)

    async with aclosing(in_order(answer, todo, concurrency=concurrency)) as stream:
        async for pair in stream:
            yield pair


async def work(job: Job[Item], target: Target, output: Output, tally: Tally) -> None:
    """Ask about every item that `output` does not hold yet.

    The weights of the beginning are pinned: when the service swaps them meanwhile, it refuses and the command
    ends, so one file is always of one weight version.
    """
    start = time.monotonic()
    total = len(job.source)

    def digest_at(at: int) -> str | None:
        return digest(job.source[at]) if at < total else None

    model = await asyncio.to_thread(_model_of_a_whole, output, total, target)
    if model is not None:
        done = output.open({**job.run, "model": model}, digest_at)
    else:
        async with target.opened() as client:
            model = await model_of(client)
            if job.check is not None:
                await job.check(client)
            done = output.open({**job.run, "model": model}, digest_at)
            if 0 < done < total:
                say(f"{output.path}: going on after {done} of {total}")

            with progress_bar(job.name, total, done=done) as advance:
                todo = items(job.source, done)
                answering = answers(job, client, todo, model["weight_version"], concurrency=target.concurrency)
                async with aclosing(answering) as stream:
                    async for item, record in stream:
                        output.add(digest(item), record)
                        advance(1)
    if done == total:
        say(f"{output.path}: nothing left to {job.name}")
    output.finish()
    say(tally.line(total, time.monotonic() - start) + (f" -> {output.path}" if output.path else ""))


def _model_of_a_whole(output: Output, total: int, target: Target) -> dict[str, str] | None:
    """Return the model of an output that holds everything, if `target` is that model, which need not be loaded."""
    count, model = output.held()
    if count != total or not isinstance(model, dict) or (own := target.foretold()) is None:
        return None
    return model if all(model.get(name) == value for name, value in own.items()) else None
