"""Where the time of one request went, as spans: the interface, and the tracing that does nothing.

Stages are told after they ended, in seconds of the service's clock, and belong to the request in whose task they
are told. It knows no HTTP and no exporter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

Describe = Callable[[str, Mapping[str, str | int]], None]
"""Names a span and gives it attributes."""


class Tracing(Protocol):
    """What the service needs of tracing."""

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[Describe]:
        """Open the span of a request, under the caller's own if `headers` has a `traceparent`."""
        ...

    def stage(self, name: str, started: float, ended: float, **numbers: int) -> None:
        """Add a stage of the request at hand."""
        ...

    def close(self) -> None:
        """Send what has not been sent yet, within seconds."""
        ...


class NoTracing:
    """Costs nothing."""

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[Describe]:  # noqa: ARG002
        """Open nothing."""
        yield lambda *_: None

    def stage(self, name: str, started: float, ended: float, **numbers: int) -> None:
        """Forget it."""

    def close(self) -> None:
        """Do nothing."""
