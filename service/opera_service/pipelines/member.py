"""POST /reward/member: trajectories that come one by one are ranked with their group.

Knows what a member is to the rendezvous: its key, what it shares, what it weighs; not who waits for whom.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from functools import lru_cache
from hashlib import sha256

from opera_client.errors import DeadlineExceeded, Overloaded
from opera_client.wire import MemberRequest, Trajectory
from opera_service.groups.anonymous import AnonymousMembers
from opera_service.groups.gatherer import GroupGatherer
from opera_service.groups.group import GroupKey, MemberSubmission
from opera_service.groups.limits import GroupLimits
from opera_service.pipelines.group_batch import (
    ASKED,
    GIVEN,
    Gathered,
    Rewarded,
    score,
    score_or_explain,
    text_tokens,
    weight,
)
from opera_service.pipelines.service import Service
from opera_service.rewards.registry import config_hash, resolve

UNNAMED = "unnamed"


class Members:
    """The groups of one service that gather member by member. Used from one event loop."""

    def __init__(self, service: Service, limits: GroupLimits) -> None:
        self._service = service
        self.rendezvous: GroupGatherer[Trajectory, Rewarded] = GroupGatherer(
            self._score, limits, clock=service.clock, weigh=weight
        )
        self.limits = service.limits
        """Of one request."""
        self._arrivals = AnonymousMembers(self.rendezvous.state, service.clock)

    async def reward(self, request: MemberRequest, *, deadline: float | None = None) -> Rewarded:
        """Return the member's answer once its group is scored. `deadline` is a time of the service's clock.

        Raises `InvalidRequest` for an unknown reward, preset or configuration, or for a field that contradicts
        the group; `WeightVersionMismatch`; `MemberConflict`; `Overloaded`; `GroupIncomplete`; `DeadlineExceeded`
        (the member keeps its place, as after a lost connection); and what scoring the group raised.
        """
        self._service.require_weights(request.weight_version)
        self._service.limits.check_trajectories(request.group_size, "group_size")
        submission = arrival_of(request)
        async with self._until(deadline):
            return await self._join(submission)

    async def reward_unnamed(self, request: MemberRequest, *, deadline: float | None) -> Rewarded:
        """Like `reward`, for a caller that sends no ids and needs an answer; `member_id` is ignored.

        Members with one group id fill groups in order of submission (see `AnonymousMembers`). A group that cannot
        be scored is answered with `status: error` for all its members, and a lack of room is waited out.
        """
        self._service.limits.check_trajectories(request.group_size, "group_size")
        submission = arrival_of(request)
        submission = replace(submission, shared={**submission.shared, UNNAMED: True})
        async with self._until(deadline):
            while True:
                try:
                    return await self._join(self._arrivals.place(submission))
                except Overloaded as error:
                    wait = error.retry_after or 1.0
                    if deadline is not None and self._service.clock() + wait >= deadline:
                        raise
                    await asyncio.sleep(wait)

    async def _join(self, submission: MemberSubmission[Trajectory]) -> Rewarded:
        started = self._service.clock()
        try:
            return await self.rendezvous.join(submission)
        finally:
            self._service.tracing.stage("group", started, self._service.clock())

    def gauges(self) -> dict[str, float]:
        """Return what is held now, for metrics."""
        state = self.rendezvous.state
        return {
            "groups_waiting": state.waiting_groups,
            "group_places_waiting": state.waiting_members,
            "group_tokens_waiting": state.waiting_tokens,
            "group_answers_kept": state.kept_answers,
        }

    def counters(self) -> dict[str, float]:
        """Return what has happened so far, for metrics; `GroupCounts` says what each means."""
        return {f"groups_{name}": count for name, count in asdict(self.rendezvous.state.counts).items()}

    def drain(self) -> None:
        """Refuse members from now on, and those who wait for others; groups in flight are finished."""
        self.rendezvous.drain()

    async def aclose(self) -> None:
        """Drain, and wait for the groups in flight."""
        await self.rendezvous.aclose()

    async def _score(self, batch: Gathered) -> dict[str, Rewarded]:
        scored = score_or_explain if batch.group.shared.get(UNNAMED) else score
        return await scored(self._service, batch)

    @asynccontextmanager
    async def _until(self, deadline: float | None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(None if deadline is None else deadline - self._service.clock()):
                yield
        except TimeoutError:
            raise DeadlineExceeded(
                "the deadline passed before the group was scored; send the member again (it keeps its place)"
            ) from None


def arrival_of(request: MemberRequest) -> MemberSubmission[Trajectory]:
    """Return `request` as the rendezvous knows it. Raises `InvalidRequest` as `registry.resolve` does."""
    chosen = _hash_of(request.reward, request.preset, json.dumps(request.config, sort_keys=True))
    said = request.model_dump_json(exclude={"wait_s", "timeout_s"})
    return MemberSubmission(
        key=GroupKey(request.run_id, request.step, request.group_id, request.reward, chosen),
        size=request.group_size,
        member_id=request.member_id,
        fingerprint=sha256(said.encode()).digest(),
        content=Trajectory(
            id=request.id, response=request.response, response_token_ids=request.response_token_ids
        ),
        tokens=_tokens(request),
        wait_s=request.wait_s,
        on_timeout=request.on_timeout,
        shared={name: getattr(request, name) for name in ASKED + GIVEN},
    )


@lru_cache(1024)
def _hash_of(reward: str, preset: str, config: str) -> str:
    """Return the hash of a configuration; the same few come with every member."""
    return config_hash(resolve(reward, preset, json.loads(config)))


def _tokens(request: MemberRequest) -> int:
    """Return about how many tokens a member has; exact numbers are not known yet."""
    prompt = request.prompt or ""
    texts = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    texts += [request.reference or "", request.response or ""]
    ids = (request.prompt_token_ids, request.reference_token_ids, request.response_token_ids)
    return sum(map(text_tokens, texts)) + sum(len(one) for one in ids if one)
