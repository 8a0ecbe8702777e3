"""Waiting for what another task does: as long as a busy machine needs, and an error where it never comes."""

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], bool], *, every_s: float = 0.001) -> None:
    """Return once `holds()`; raises `TimeoutError` after a minute."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(every_s)
