"""Hints of one trajectory while it is being written: sent as it comes, never waited for, never an error.

Knows how to be late, not how to ask: the client does that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from opera_client._connection import Connection
from opera_client._http import ask
from opera_client._parse import validated
from opera_client._retry import Backoff, Deadline
from opera_client._routing import GROUP_HEADER, group_route
from opera_client.errors import OperaError
from opera_client.wire import HintPart, HintRequest, HintResult

log = logging.getLogger("opera_client")


_WITHIN_S = 1.0
"""Seconds for one hint: one that is later is of little use."""


class HintStream:
    """`add` what has come to the trajectory; what could not be sent is tried again with the next part.

    Parts that come while one is on its way are sent together. Where the service has no use for hints, no more are
    sent.
    """

    def __init__(self, send: Callable[[HintRequest], Awaitable[HintResult]], about: Mapping[str, Any]) -> None:
        """`about` are the fields of a `HintRequest` but `seq` and `append`. Raises `InvalidRequest`."""
        validated(HintRequest, {**about, "seq": 0, "append": {"token_ids": [0]}}, "")
        self._send, self._about = send, dict(about)
        self._waiting: list[HintPart] = []
        self._current: HintPart | None = None
        """Perhaps the service has it: it is sent again as it was."""
        self._seq = 0
        self._task: asyncio.Task[None] | None = None
        self._useless = False

    def add(
        self,
        token_ids: Sequence[int] | None = None,
        *,
        mask: Sequence[int] | None = None,
        turns: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Say what has come: token ids (with a mask where not all are the policy's), or turns. Returns at once.

        Raises `InvalidRequest` for neither, both or what they may not be; nothing else, whatever the service does.
        """
        part = validated(HintPart, {"token_ids": token_ids, "mask": mask, "turns": turns}, "")
        if self._useless:
            return
        self._waiting.append(part)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())

    async def aclose(self) -> None:
        """Stop sending; the reward needs no hint that is not there yet."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _drain(self) -> None:
        while (self._waiting or self._current) and not self._useless:
            about = self._about if self._seq == 0 else _named(self._about)
            try:
                if self._current is None:
                    parts, self._waiting = self._waiting, []
                    self._current = _joined(parts)
                hint = HintRequest.model_validate({**about, "seq": self._seq, "append": self._current})
                self._useless = not (await self._send(hint)).accepted
                self._current, self._seq = None, self._seq + 1
            except OperaError as error:
                if not error.retryable:
                    self._give_up(error)
                log.debug("a hint was not sent: %s", error)
                return
            except ValueError as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Nothing that comes later can be of use."""
        self._useless, self._current = True, None
        self._waiting.clear()
        log.warning("hints of %s end here: %s", self._about.get("member_id"), error)


def _named(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: about[name] for name in ("run_id", "step", "group_id", "member_id") if name in about}


def _joined(parts: Sequence[HintPart]) -> HintPart:
    """Return several parts as one. Raises ValueError where some are ids and some are turns."""
    turns = [turn for part in parts for turn in part.turns or ()]
    ids = [token for part in parts for token in part.token_ids or ()]
    if turns:
        return HintPart(turns=turns, token_ids=ids or None)
    masked = any(part.mask is not None for part in parts)
    mask = [one for part in parts for one in part.mask or [1] * len(part.token_ids or ())] if masked else None
    return HintPart(token_ids=ids, mask=mask)


class HintCalls:
    """A part of `AsyncRewardClient`: needs its connection for many callers, and its retries."""

    _crowd: Connection
    _backoff: Backoff

    def hints(
        self, *, group_id: str, member_id: str, run_id: str | None = None, step: int | None = None, **about: Any
    ) -> HintStream:
        """Return what takes a trajectory as it is written, so that the service works ahead; see `HintStream`.

        `about` are `prompt` or `prompt_token_ids`, `reference`, `task`, `reward`, `preset`, `config` and
        `detail`, as the final request will give them. It changes no reward. A hint has a second's time.
        """
        headers = {GROUP_HEADER: group_route(run_id, step, group_id)}

        async def send(hint: HintRequest) -> HintResult:
            return await ask(
                await self._crowd.open(), HintResult, "POST", "/reward/hint", body=hint, headers=headers,
                deadline=Deadline(_WITHIN_S), backoff=self._backoff, accept=frozenset({202}),
            )  # fmt: skip

        names = {"run_id": run_id, "step": step, "group_id": group_id, "member_id": member_id}
        return HintStream(send, {**names, **about})
