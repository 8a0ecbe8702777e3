"""The asyncio shell around the state of groups: await a member's answer, score the batches, wake up in time.

Must be used from one event loop. It knows no reward, no text, no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from copy import copy
from dataclasses import asdict
from typing import Generic

from opera_client.errors import InternalError, OperaError, Unavailable
from opera_service.groups.anonymous import AnonymousMembers
from opera_service.groups.group import Answer, Content, GroupBatch, MemberSubmission
from opera_service.groups.limits import GroupLimits
from opera_service.groups.state import Clock, GroupState

logger = logging.getLogger(__name__)


class GroupGatherer(Generic[Content, Answer]):
    """Gathers groups in `state` and has each batch scored once by `score`: a mapping member id -> answer."""

    def __init__(
        self,
        score: Callable[[GroupBatch[Content, Answer]], Awaitable[Mapping[str, Answer]]],
        limits: GroupLimits | None = None,
        *,
        clock: Clock = time.monotonic,
        weigh: Callable[[Answer], int] = lambda _: 0,
    ) -> None:
        self.state: GroupState[Content, Answer] = GroupState(limits or GroupLimits(), clock, weigh)
        self.anonymous = AnonymousMembers(self.state, clock)
        """Places for members whose callers send no ids."""
        self._score = score
        self._clock = clock
        self._batches: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._alarm = math.inf
        """The clock time that the timer stands at."""
        self._closing = False

    async def join(self, submission: MemberSubmission[Content]) -> Answer:
        """Wait for the member's answer. Cancelling the caller leaves the member its place.

        Raises what `GroupState.join` raises, `GroupIncomplete` when the wait is over and the group wants no
        partial answer, `Unavailable` when the service goes away, and whatever error scoring ended in.
        """
        if self._closing:
            raise _going()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(outcome: Answer | OperaError) -> None:
            if future.done():
                return  # cancelled a moment ago
            if isinstance(outcome, OperaError):
                future.set_exception(copy(outcome))  # each caller raises its own, with its own traceback
            else:
                future.set_result(outcome)

        waiter = self.state.join(submission, reply)
        self._advance()
        try:
            return await future
        finally:
            self.state.leave(waiter)

    def gauges(self) -> dict[str, float]:
        """Return what is held now, for metrics."""
        state = self.state
        return {
            "groups_waiting": state.waiting_groups,
            "group_places_waiting": state.waiting_members,
            "group_tokens_waiting": state.waiting_tokens,
            "group_answers_kept": state.kept_answers,
        }

    def counters(self) -> dict[str, float]:
        """Return what has happened so far, for metrics; `GroupCounts` says what each means."""
        return {f"groups_{name}": count for name, count in asdict(self.state.counts).items()}

    def drain(self) -> None:
        """Refuse all who wait for others and all who come, with `Unavailable`; batches that are out go on."""
        self._closing = True
        self.state.refuse_all(_going())

    async def aclose(self) -> None:
        """Drain, and wait for the batches that are out."""
        self.drain()
        while self._batches:
            await asyncio.wait(set(self._batches))
        if self._timer is not None:
            self._timer.cancel()

    def _advance(self) -> None:
        """Start what became due and set the alarm for what comes next."""
        for batch in self.state.tick():
            task = asyncio.create_task(self._run(batch), name=f"opera-group-{batch.kind}")
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)
        next_event = self.state.next_event
        if next_event is not None and next_event < self._alarm:
            if self._timer is not None:
                self._timer.cancel()
            self._alarm = next_event
            wait = max(0.0, next_event - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait, self._wake, context=Context())

    def _wake(self) -> None:
        self._timer, self._alarm = None, math.inf
        self._advance()

    async def _run(self, batch: GroupBatch[Content, Answer]) -> None:
        outcome: Mapping[str, Answer] | OperaError = _going()
        try:
            outcome = await self._score(batch)
        except OperaError as error:
            outcome = error
        except Exception:  # a mistake of ours, whatever it is: those who wait must be told, and others go on
            logger.exception("group %r could not be scored", batch.group.key)
            outcome = InternalError("the group could not be scored; see the server's log")
        finally:
            self.state.close(batch, outcome)
            self._advance()


def _going() -> Unavailable:
    return Unavailable("the service is shutting down; send the member again, to where its group meets from now on")
