"""Trajectories that are still being written: what hints have told of them, and when to work ahead.

Best effort throughout: whatever is lost, late, repeated or wrong costs time only, as the final request says itself
what it needs. Bounded by members and tokens; the longest untouched leave first. Knows no tokenizer and no reward.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from opera_client.wire import Group, HintPart, HintRequest, RewardRequest, Trajectory

logger = logging.getLogger(__name__)

MOST_MEMBERS, MOST_TOKENS = 4096, 2**22
"""Trajectories, and their tokens, that are known at a time."""
AT_ONCE = 2
"""Trajectories that are worked ahead for at a time. What asks for a reward waits for a batch that they fill: with
8, a flood of hints made others' p99 2.4 to 4.7 times as long, with 2 it was 1.5 times."""
LEAST_OWN_TOKENS = 2**16
"""A trajectory may always be about so long."""
_Key = tuple[str | None, int | None, str, str]


@dataclass
class _Growing:
    """One trajectory so far."""

    parts: dict[int, HintPart] = field(default_factory=dict)
    first: HintRequest | None = None
    tokens: int = 0
    worked: int = 0
    """How many parts, from the first on, were worked ahead for."""
    working: asyncio.Task[None] | None = None

    def contiguous(self) -> list[HintPart]:
        """Return the parts from the first on, up to the first missing one."""
        found: list[HintPart] = []
        while len(found) in self.parts:
            found.append(self.parts[len(found)])
        return found


class Hints:
    """Takes hints, and works ahead for what they tell."""

    def __init__(
        self,
        work: Callable[[RewardRequest], Awaitable[None]],
        *,
        of_use: Callable[[], bool],
        max_context: int,
        most_members: int = MOST_MEMBERS,
        most_tokens: int = MOST_TOKENS,
    ) -> None:
        """`work` prices what is known so far; `of_use` says whether the engine keeps anything of it.

        `max_context` is the engine's; what is much longer is forgotten.
        """
        self._work, self._of_use = work, of_use
        self._most_members, self._most_tokens = most_members, most_tokens
        self._most_own = min(max(4 * max_context, LEAST_OWN_TOKENS), most_tokens)
        self._growing: OrderedDict[_Key, _Growing] = OrderedDict()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tokens = 0
        self._counts = dict.fromkeys(("taken", "repeated", "refused", "worked", "failed"), 0)

    def take(self, hint: HintRequest, weight: int) -> bool:
        """Remember a hint of `weight_of` so much and begin to work for it; say whether hints are of use.

        Never waits, never raises. A first part that is not the one that is known begins the trajectory afresh.
        """
        if not self._of_use():
            self._counts["refused"] += 1
            return False
        key = (hint.run_id, hint.step, hint.group_id, hint.member_id)
        known = self._growing.get(key)
        if known is not None and hint.seq == 0 and known.first not in (None, hint):
            self._forget(key)
        one = self._growing.setdefault(key, _Growing())
        self._growing.move_to_end(key)
        if hint.seq in one.parts:
            self._counts["repeated"] += 1
            return True
        self._counts["taken"] += 1
        one.parts[hint.seq] = hint.append
        if hint.seq == 0:
            one.first = hint
        one.tokens += weight
        self._tokens += weight
        if one.tokens > self._most_own:
            self._forget(key)
        self._make_room()
        if key not in self._growing:
            return True
        if one.working is None and len(one.contiguous()) > one.worked and one.first is not None:
            one.working = asyncio.create_task(self._work_for(one))
        return True

    def gauges(self) -> dict[str, float]:
        """Return what is known now, for metrics."""
        return {"hinted_members": len(self._growing), "hinted_tokens": self._tokens}

    def counters(self) -> dict[str, float]:
        """Return what has happened so far, for metrics."""
        return {f"hints_{name}": count for name, count in self._counts.items()}

    async def aclose(self) -> None:
        """Stop working ahead."""
        tasks = [one.working for one in self._growing.values() if one.working is not None]
        self._growing.clear()
        self._tokens = 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> None:
        while len(self._growing) > self._most_members or self._tokens > self._most_tokens:
            self._forget(next(iter(self._growing)))

    def _forget(self, key: _Key) -> None:
        gone = self._growing.pop(key)
        self._tokens -= gone.tokens
        if gone.working is not None:
            gone.working.cancel()

    async def _work_for(self, one: _Growing) -> None:
        """Work until nothing new is known; parts that come meanwhile are taken together."""
        try:
            while len(parts := one.contiguous()) > one.worked and one.first is not None:
                async with self._turns:
                    one.worked = len(parts)
                    await self._try(one.first, parts)
        finally:
            one.working = None

    async def _try(self, first: HintRequest, parts: list[HintPart]) -> None:
        try:
            await self._work(await asyncio.to_thread(request_of, first, parts))
            self._counts["worked"] += 1
        except Exception as error:  # noqa: BLE001  the final request says what is wrong, if it still is
            self._counts["failed"] += 1
            logger.debug("a hint was of no use: %s", type(error).__name__)  # its text may quote what was sent


def weight_of(hint: HintRequest) -> int:
    """Return about how many tokens a hint holds, prompt and settings included; four bytes of JSON are one."""
    return 1 + len(hint.model_dump_json(exclude_defaults=True)) // 4


def request_of(first: HintRequest, parts: list[HintPart]) -> RewardRequest:
    """Return the request about what is known so far. Raises ValueError where parts do not fit together."""
    turns = [turn for part in parts for turn in part.turns or ()]
    ids = [token for part in parts for token in part.token_ids or ()]
    if turns and ids:
        raise ValueError("hints of one trajectory come as token ids or as turns")
    masked = any(part.mask is not None for part in parts)
    mask = [one for part in parts for one in part.mask or [1] * len(part.token_ids or ())] if masked else None
    known = Trajectory(turns=turns) if turns else Trajectory(response_token_ids=ids, response_mask=mask)
    group = Group(
        prompt=first.prompt,
        prompt_token_ids=first.prompt_token_ids,
        reference=first.reference,
        reference_token_ids=first.reference_token_ids,
        task=first.task,
        trajectories=[known],
    )
    return RewardRequest(
        run_id=first.run_id,
        reward=first.reward,
        preset=first.preset,
        config=first.config,
        detail=first.detail,
        groups=[group],
    )
