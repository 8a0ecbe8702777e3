"""Hints of trajectories, taken from a trainer's own calls of its model: the service works ahead meanwhile.

    hints = CallHints(client, group_id=…, member_id=…, reference=…, reward=…)
    hints.take(prompt_ids, written_ids)                     # after every call; returns at once, raises nothing

A hint changes no reward, so whatever goes wrong here ends the hints of that trajectory and nothing else. Knows the
client's hints and the shape of a call, ids in and ids out; no trainer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from opera_client import AsyncRewardClient

log = logging.getLogger("opera_adapters")


class CallHints:
    """One trajectory: each call's prompt is everything before it, what the environment said included."""

    def __init__(self, client: AsyncRewardClient, **about: Any) -> None:
        """`about` is what `client.hints` takes, but the prompt: that is the first call's."""
        self._client, self._about = client, about
        self._stream: Any = None
        self._path: list[int] = []
        self._ended = False

    def take(self, prompt_ids: Sequence[int], written_ids: Sequence[int]) -> None:
        """Tell the service what a call brought. The first call's prompt is the trajectory's.

        A prompt that does not begin with all that came before ends the hints: a template has dropped something, so
        the final request will be about other tokens.
        """
        if self._ended:
            return
        try:
            self._take(list(prompt_ids), list(written_ids))
        except Exception as error:  # noqa: BLE001  a hint must not cost a trajectory
            self._end(type(error).__name__)

    def _take(self, prompt: list[int], written: list[int]) -> None:
        said: list[int] = []
        if self._stream is None:
            self._stream = self._client.hints(**self._about, prompt_token_ids=prompt)
        elif prompt[: len(self._path)] != self._path:
            self._end("the prompt is no continuation")
            return
        else:
            said = prompt[len(self._path) :]
        self._path = [*prompt, *written]
        if said or written:
            self._stream.add([*said, *written], mask=[0] * len(said) + [1] * len(written))

    def _end(self, why: str) -> None:
        self._ended = True
        log.debug("hints of %s end here: %s", self._about.get("member_id"), why)

    async def aclose(self) -> None:
        """Send no more; the reward needs no hint that is not there yet."""
        self._ended = True
        if self._stream is not None:
            await self._stream.aclose()


own_hints: ContextVar[CallHints | None] = ContextVar("opera_hints", default=None)
"""Of the trajectory that the running task writes."""


class HintingClient:
    """verl's client of its servers, which tells `own_hints` what every call brought."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def generate(self, request_id: str, *, prompt_ids: Sequence[int], **more: Any) -> Any:
        """Sample as verl does."""
        output = await self._client.generate(request_id, prompt_ids=prompt_ids, **more)
        if (hints := own_hints.get()) is not None:
            hints.take(prompt_ids, output.token_ids)
        return output


class HintingEngine:
    """OpenRLHF's `llm_engine`, which tells `hints` what every call brought."""

    def __init__(self, engine: Any, hints: CallHints) -> None:
        self._engine, self._hints = engine, hints

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(self, prompt_token_ids: Sequence[int], *args: Any, **more: Any) -> Any:
        """Sample as OpenRLHF does."""
        output = await self._engine.generate(prompt_token_ids, *args, **more)
        self._hints.take(prompt_token_ids, output.outputs[0].token_ids)
        return output
