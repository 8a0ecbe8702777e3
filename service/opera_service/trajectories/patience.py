"""Whether anybody still waits for what is being encoded: asked between pieces of long work.

The request says so around the work; what does the work needs not to know of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class GivenUp(Exception):
    """Nobody waits for this any more: its deadline passed, or its caller has left."""


_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("wanted", default=None)


@contextmanager
def while_wanted(wanted: Callable[[], bool]) -> Iterator[None]:
    """Let work within the block end with `GivenUp` as soon as `wanted` says no; called in the work's thread."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def must_be_wanted() -> None:
    """Raise `GivenUp` when the work is not wanted any more."""
    wanted = _wanted.get()
    if wanted is not None and not wanted():
        raise GivenUp
