"""POST /reward/member: trajectories that come one by one are ranked with their group.

Knows what a member is to the gatherer: its key, what it shares, what it weighs; not who waits for whom.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256

from opera_client.errors import DeadlineExceeded, Overloaded
from opera_client.wire import MemberRequest, Trajectory, texts_of
from opera_service.groups.group import GroupKey, MemberSubmission
from opera_service.pipelines.costed import Costed
from opera_service.pipelines.group_batch import ASKED, GIVEN, UNNAMED
from opera_service.pipelines.member_reward import MemberReward, text_tokens
from opera_service.pipelines.reward_views import require_reference
from opera_service.pipelines.runtime import Runtime
from opera_service.rewards.registry import AnyReward, config_hash, resolve


async def reward_member(
    runtime: Runtime, request: MemberRequest, *, deadline: float | None = None, sender: str = ""
) -> Costed:
    """Return the member's answer once its group is scored. `deadline` is a time of the runtime's clock.

    `sender` tells keys apart, each of which has a share of the places; empty where none are asked for.
    Raises `InvalidRequest` for an unknown reward, preset or configuration, or for a field that contradicts
    the group; `WeightVersionMismatch`; `MemberConflict`; `Overloaded`; `GroupIncomplete`; `DeadlineExceeded`
    (the member keeps its place, as after a lost connection); and what scoring the group raised.
    """
    runtime.require_weights(request.weight_version)
    runtime.limits.check_trajectories(request.group_size, "group_size")
    submission = submission_of(request, sender)
    runtime.second_for(_resolved(request.reward, request.preset, json.dumps(request.config, sort_keys=True))[0])
    async with _until(runtime, deadline):
        member = await _join(runtime, submission)
    return Costed(member.result, member.usage, member.timing, member.result.model.weight_version)


async def reward_unnamed(runtime: Runtime, request: MemberRequest, *, deadline: float | None) -> MemberReward:
    """Like `reward_member`, for a caller that sends no ids and needs an answer; `member_id` is ignored.

    Members with one group id fill groups in order of submission (see `AnonymousMembers`). A group that cannot
    be scored is answered with `status: error` for all its members, and a lack of room is waited out.
    """
    runtime.limits.check_trajectories(request.group_size, "group_size")
    submission = submission_of(request)
    submission = replace(submission, shared={**submission.shared, UNNAMED: True})
    async with _until(runtime, deadline):
        while True:
            try:
                return await _join(runtime, runtime.gatherer.anonymous.place(submission))
            except Overloaded as error:
                wait = error.retry_after or 1.0
                if deadline is not None and runtime.clock() + wait >= deadline:
                    raise
                await asyncio.sleep(wait)


async def _join(runtime: Runtime, submission: MemberSubmission[Trajectory]) -> MemberReward:
    started = runtime.clock()
    try:
        return await runtime.gatherer.join(submission)
    finally:
        runtime.tracing.stage("group", started, runtime.clock())


@asynccontextmanager
async def _until(runtime: Runtime, deadline: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(None if deadline is None else deadline - runtime.clock()):
            yield
    except TimeoutError:
        raise DeadlineExceeded(
            "the deadline passed before the group was scored; send the member again (it keeps its place)"
        ) from None


def submission_of(request: MemberRequest, sender: str = "") -> MemberSubmission[Trajectory]:
    """Return `request` as the gatherer knows it. `InvalidRequest` as `registry.resolve` raises."""
    reward, chosen = _resolved(request.reward, request.preset, json.dumps(request.config, sort_keys=True))
    require_reference(reward, request, "reference")
    said = request.model_dump_json(exclude={"wait_s", "timeout_s"})
    return MemberSubmission(
        key=GroupKey(request.run_id, request.step, request.group_id, request.reward, chosen),
        size=request.group_size,
        member_id=request.member_id,
        fingerprint=sha256(said.encode()).digest(),
        content=Trajectory(**{name: getattr(request, name) for name in Trajectory.model_fields}),
        tokens=_tokens(request),
        wait_s=request.wait_s,
        on_timeout=request.on_timeout,
        shared={name: getattr(request, name) for name in ASKED + GIVEN},
        sender=sender,
    )


@lru_cache(1024)
def _resolved(reward: str, preset: str, config: str) -> tuple[AnyReward, str]:
    """Return a reward and the hash of its configuration; the same few come with every member."""
    chosen = resolve(reward, preset, json.loads(config))
    return chosen, config_hash(chosen)


def _tokens(request: MemberRequest) -> int:
    """Return about how many tokens a member has; exact numbers are not known yet."""
    prompt = request.prompt or ""
    texts = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    turns = request.turns or ()
    texts += [*texts_of(request.reference), request.response or "", *(turn.content for turn in turns)]
    ids = [request.prompt_token_ids, request.reference_token_ids, request.response_token_ids]
    ids += [turn.token_ids for turn in turns]
    return sum(map(text_tokens, texts)) + sum(len(one) for one in ids if one)
