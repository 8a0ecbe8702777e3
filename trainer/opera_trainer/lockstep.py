"""Many searches side by side: in every round, all their questions go out in one request of each sort.

A search is a generator that yields items of `/expand` and `/rank` and is sent their results.
One search that the service refuses ends with its error, the others go on. Knows the client, no files.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TypeAlias, TypeVar

from opera_client import AsyncRewardClient
from opera_client.errors import ItemError, error_from_body
from opera_client.wire import ErrorDetail, ExpandItem, ExpandItemResult, RankItem, RankItemResult

R = TypeVar("R")
Ask: TypeAlias = ExpandItem | RankItem
Answer: TypeAlias = ExpandItemResult | RankItemResult
Running = Generator[Ask, Answer, R]


async def lockstep(
    client: AsyncRewardClient,
    searches: Mapping[str, Running[R]],
    weight_version: str | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> dict[str, R | ErrorDetail]:
    """Run searches to their ends.

    Args:
        client: of the service.
        searches: by name.
        weight_version: refuse answers of other weights.
        on_end: called when a search has ended.

    Raises:
        OperaError: the service failed, or refused the request as a whole.
    """
    ended: dict[str, R | ErrorDetail] = {}
    waiting: dict[str, Ask] = {}

    def resume(name: str, answer: Answer | None) -> None:
        try:
            waiting[name] = next(searches[name]) if answer is None else searches[name].send(answer)
        except StopIteration as stop:
            ended[name] = stop.value
            on_end()

    for name in searches:
        resume(name, None)
    while waiting:
        asked, waiting = waiting, {}
        for name, answer in (await _answers(client, asked, weight_version)).items():
            if isinstance(answer, ErrorDetail):
                ended[name] = answer
                on_end()
            else:
                resume(name, answer)
    return {name: ended[name] for name in searches}


async def _answers(
    client: AsyncRewardClient, asked: Mapping[str, Ask], weight_version: str | None
) -> dict[str, Answer | ErrorDetail]:
    expands = {name: item for name, item in asked.items() if isinstance(item, ExpandItem)}
    ranks = {name: item for name, item in asked.items() if isinstance(item, RankItem)}
    found: dict[str, Answer | ErrorDetail] = {}
    try:
        if expands:
            sampled = await client.expand(expands.values(), weight_version=weight_version)
            found.update(zip(expands, sampled.items, strict=True))
        if ranks:
            ranked = await client.rank(ranks.values(), weight_version=weight_version)
            found.update(zip(ranks, ranked.items, strict=True))
    except ItemError as error:
        if len(asked) == 1:
            return {name: ErrorDetail.model_validate(error.body()) for name in asked}
        # A chunk in which no item is good is refused as a whole.
        alone = [await _answers(client, {name: item}, weight_version) for name, item in asked.items()]
        return {name: answer for one in alone for name, answer in one.items()}
    return {name: _checked(found[name]) for name in asked}


def _checked(answer: Answer | ErrorDetail) -> Answer | ErrorDetail:
    """Return the answer, or the error of its item; a failure of the service ends everything."""
    if isinstance(answer, ErrorDetail) or answer.status == "ok" or answer.error is None:
        return answer
    error = error_from_body({"error": answer.error.model_dump()}, status=500)
    if not isinstance(error, ItemError):
        raise error
    return answer.error
