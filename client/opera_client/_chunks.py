"""A big batch in small requests: cut by count and by size on the wire, answers merged back in order.

Knows no HTTP. Every answer of a merge must come from the same weights; a mixture is refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from pydantic import BaseModel

from opera_client.errors import UnexpectedAnswer, WeightVersionMismatch
from opera_client.wire import (
    ErrorDetail,
    ExpandResult,
    ModelInfo,
    RankResult,
    RewardResult,
    ScoreResult,
    Timing,
)

Item = TypeVar("Item", bound=BaseModel)
In = TypeVar("In")
Out = TypeVar("Out")
Result = TypeVar("Result", RewardResult, RankResult, ExpandResult, ScoreResult)


def cut(items: Iterable[Item], *, max_items: int, max_bytes: int) -> Iterator[list[Item]]:
    """Yield consecutive runs of at most `max_items` items and about `max_bytes` bytes of JSON.

    Token ids and text both cost bytes, so the byte limit bounds tokens too. An item over the limit travels
    alone: whether it is too large is the service's to say.
    """
    chunk: list[Item] = []
    size = 0
    for item in items:
        weight = len(item.model_dump_json(exclude_none=True))
        if chunk and (len(chunk) >= max_items or size + weight > max_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += weight
    if chunk:
        yield chunk


async def in_order(
    work: Callable[[In], Awaitable[Out]], items: Iterable[In], *, concurrency: int
) -> AsyncGenerator[Out, None]:
    """Yield `work(item)` in the order of `items`, at most `concurrency` at a time.

    Finished answers that wait for an earlier one are bounded too (twice `concurrency`), so a stream of any
    length runs in bounded memory. The first failure, in order, cancels everything still in flight.
    """
    gate = asyncio.Semaphore(concurrency)

    async def guarded(item: In) -> Out:
        async with gate:
            return await work(item)

    window: deque[asyncio.Task[Out]] = deque()
    try:
        for item in items:
            window.append(asyncio.create_task(guarded(item)))
            if len(window) >= 2 * concurrency:
                yield await window[0]
                window.popleft()
        while window:
            yield await window[0]
            window.popleft()
    finally:
        for task in window:
            task.cancel()
        await asyncio.gather(*window, return_exceptions=True)


def shift_field(field: str | None, offset: int) -> str | None:
    """Return the path of a field in the caller's batch, given its path in a chunk that begins at `offset`.

    `groups.2.reference` of a chunk that begins at 32 is `groups.34.reference`; other paths stay as they are.
    """
    root, _, rest = (field or "").partition(".")
    number, dot, tail = rest.partition(".")
    if root not in ("groups", "items") or not number.isdecimal():
        return field
    return f"{root}.{int(number) + offset}{dot}{tail}"


def shift(result: Result, offset: int) -> Result:
    """Return the answer of a chunk that begins at `offset`, its errors naming fields of the caller's batch."""
    for error in _errors(result):
        error.field = shift_field(error.field, offset)
    return result


def _errors(result: RewardResult | RankResult | ExpandResult | ScoreResult) -> Iterator[ErrorDetail]:
    if isinstance(result, RewardResult):
        outcomes = [trajectory.error for group in result.groups for trajectory in group.trajectories]
    elif isinstance(result, RankResult | ExpandResult):
        outcomes = [item.error for item in result.items]
        outcomes += [candidate.error for item in result.items for candidate in item.candidates]
    else:
        outcomes = [item.error for item in result.items]
    return (error for error in outcomes if error is not None)


def merge(parts: Sequence[Result]) -> Result:
    """Join the answers of consecutive chunks into the answer of the whole.

    Usage and times are summed over the chunks: they are the service's work, not the caller's wall clock
    (chunks run side by side). `ema_baseline` is that of the last chunk.

    Raises:
        WeightVersionMismatch: the weights were swapped between two chunks.
        UnexpectedAnswer: the chunks disagree on model, second model, reward, preset or config.
    """
    first, last = parts[0], parts[-1]
    for part in parts[1:]:
        _same_model(first.model, part.model)
        if isinstance(first, RewardResult) and isinstance(part, RewardResult):
            if first.second_model != part.second_model:
                raise UnexpectedAnswer(
                    f"one call was compared with two models: {first.second_model} and {part.second_model}; "
                    "check the address"
                )
            settings = (first.reward, first.preset, first.config_hash)
            if settings != (part.reward, part.preset, part.config_hash):
                raise UnexpectedAnswer("chunks of one call were scored with different reward settings")
    if len(parts) == 1:
        return first
    changes: dict[str, object] = {
        "usage": type(first.usage).total([part.usage for part in parts]),
        "timing_ms": _total([part.timing_ms for part in parts]),
    }
    if isinstance(last, RewardResult):
        changes["groups"] = [g for part in parts if isinstance(part, RewardResult) for g in part.groups]
        changes["ema_baseline"] = last.ema_baseline
    else:
        changes["items"] = [item for part in parts if not isinstance(part, RewardResult) for item in part.items]
    return first.model_copy(update=changes)


def _same_model(one: ModelInfo, other: ModelInfo) -> None:
    if one.weight_version != other.weight_version:
        raise WeightVersionMismatch(
            f"the weights changed during the call: part was scored by version {one.weight_version!r}, part by "
            f"{other.weight_version!r}; call again, and pass weight_version= to pin one"
        )
    if one != other:
        raise UnexpectedAnswer(f"one call was answered by two models: {one} and {other}; check the address")


Times = TypeVar("Times", bound=Timing)


def _total(parts: Sequence[Times]) -> Times:
    kind = type(parts[0])
    return kind(**{name: sum(getattr(part, name) for part in parts) for name in kind.model_fields})
