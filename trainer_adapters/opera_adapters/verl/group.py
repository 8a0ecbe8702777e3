"""The sessions of one prompt, gathered on one event loop and asked about once.

Knows how many there are and who is still awaited; nothing of verl or the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from opera_client.errors import OperaError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class PromptGroup(Generic[Item, Answer]):
    """Sessions 0 to `size` - 1. When each has brought its item or left, `ask` is called with the items, once.

    Nobody waits for a session that has left, and nothing is asked when all left with empty hands.
    """

    def __init__(
        self, size: int, ask: Callable[[Mapping[int, Item]], Awaitable[Mapping[int, Answer | OperaError]]]
    ) -> None:
        self._awaited = set(range(size))
        self._items: dict[int, Item] = {}
        self._ask = ask
        self._asked = asyncio.Event()
        self._answers: asyncio.Future[Mapping[int, Answer | OperaError]] | None = None

    async def answer(self, session: int, item: Item) -> Answer:
        """Bring a session's item and return its answer, or raise its error."""
        self._items[session] = item
        self.leave(session)
        await self._asked.wait()
        assert self._answers is not None
        found = (await asyncio.shield(self._answers))[session]  # one session's end is not the others'
        if isinstance(found, OperaError):
            raise found
        return found

    def leave(self, session: int) -> None:
        """Say that nobody needs to wait for this session any more; again changes nothing."""
        self._awaited.discard(session)
        if not self._awaited and self._items and self._answers is None:
            self._answers = asyncio.ensure_future(self._ask(dict(self._items)))
            self._asked.set()
