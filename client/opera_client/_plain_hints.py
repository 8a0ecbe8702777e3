"""Hints of one trajectory from plain code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opera_client._hints import HintStream
from opera_client._portal import Portal


class PlainHintStream:
    """A `HintStream` on the event-loop thread of a `RewardClient`."""

    def __init__(self, stream: HintStream, portal: Portal) -> None:
        self._stream, self._portal = stream, portal

    def add(
        self,
        token_ids: Sequence[int] | None = None,
        *,
        mask: Sequence[int] | None = None,
        turns: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Say what has come, as `HintStream.add` does; the service is not waited for."""

        async def add() -> None:  # in the loop, where the stream sends from
            self._stream.add(token_ids, mask=mask, turns=turns)

        self._portal.run(add)

    def close(self) -> None:
        """Stop sending."""
        self._portal.run(self._stream.aclose)
