"""A gathered group as one /reward request, and each member's answer out of it.

It knows what the members of a group share; not how they met.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from opera_client.errors import OperaError, Overloaded, Unavailable, error_from_body
from opera_client.wire import (
    ErrorDetail,
    Group,
    MemberResult,
    ModelInfo,
    RewardRequest,
    Timing,
    Trajectory,
    TrajectoryResult,
    Usage,
)
from opera_service.groups.group import GroupBatch, Kind
from opera_service.pipelines.member_reward import MemberReward
from opera_service.pipelines.reward import score_groups
from opera_service.pipelines.runtime import Runtime
from opera_service.trajectories.group_path import MEMBER

logger = logging.getLogger(__name__)

ASKED = ("reward", "preset", "config", "detail", "weight_version")
UNNAMED = "unnamed"
"""Shared by members whose callers send no ids and need an answer, whatever happens."""
GIVEN = ("task", "prompt", "prompt_token_ids", "reference", "reference_token_ids")
TRIES = 3
"""How often a batch is scored before its members get an answer without a reward."""

_FLAGS: Mapping[Kind, list[str]] = {"complete": [], "partial": ["group_partial"], "late": ["late_member"]}


Gathered = GroupBatch[Trajectory, MemberReward]


async def score_batch(runtime: Runtime, batch: Gathered) -> dict[str, MemberReward]:
    """Return the answers of the batch's fresh members; their callers say whether an error may be an answer.

    Raises what failed for the group as a whole; only `Unavailable` and `Overloaded` where all need an answer.
    """
    scored = _score_or_explain if batch.group.shared.get(UNNAMED) else _score
    return await scored(runtime, batch)


async def _score(runtime: Runtime, batch: Gathered) -> dict[str, MemberReward]:
    # By name, not by submission: who came first must not decide between equals.
    names = sorted(batch.members)
    shared, key = batch.group.shared, batch.group.key
    members = [batch.members[name].model_copy(update={"id": name}) for name in names]
    request = RewardRequest(
        **_part(shared, ASKED),
        run_id=key.run_id,
        step=key.step,
        groups=[Group(**_part(shared, GIVEN), group_id=key.group_id, trajectories=members)],
    )
    # A late member's group has been part of the run's numbers already.
    fresh = batch.fresh if batch.kind == "late" else None
    answer = await score_groups(runtime, request, fresh=fresh, expected=batch.group.size, path=lambda _: MEMBER)
    results = dict(zip(names, answer.groups[0].trajectories, strict=True))
    raise_if_nothing_is_final([*results.values()])
    rewards = tuple(one.reward for one in results.values() if one.reward is not None)
    return {
        name: MemberReward(
            _own(batch, name, results[name], answer.model, answer.second_model),
            answer.usage,
            answer.timing_ms,
            rewards,
        )
        for name in batch.fresh
    }


async def _score_or_explain(runtime: Runtime, batch: Gathered, *, pause_s: float = 1.0) -> dict[str, MemberReward]:
    """Like `_score`, for callers that need an answer: a group that cannot be scored gets one error in all answers.

    What may pass is tried `TRIES` times first. Raises `Unavailable` and `Overloaded` only: the
    service as a whole is at fault then.
    """
    for again in reversed(range(TRIES)):
        try:
            return await _score(runtime, batch)
        except (Unavailable, Overloaded):
            raise  # the members keep their places and ask again
        except OperaError as error:
            if error.retryable and again:
                await asyncio.sleep(pause_s)
                continue
            logger.warning("a group of %d gets no rewards: %s", len(batch.members), error.code)
            why = ErrorDetail.model_validate(error.body())
            break
    failed = TrajectoryResult(id="", status="error", error=why)
    nothing = (
        Usage(tokens_naive=0, tokens_computed=0, scored_tokens=0),
        Timing(encode=0, queue=0, engine=0, total=0),
    )
    return {
        name: MemberReward(_own(batch, name, failed, runtime.model()), *nothing, group=()) for name in batch.fresh
    }


def _part(shared: Mapping[str, object], names: Sequence[str]) -> dict[str, Any]:
    return {name: shared[name] for name in names}


def raise_if_nothing_is_final(results: Sequence[TrajectoryResult]) -> None:
    """A group of which nothing was scored, for a reason that may pass, has failed: it has no answers yet."""
    errors = [result.error for result in results if result.error is not None]
    if len(errors) == len(results) and (passing := [error for error in errors if error.retryable]):
        raise error_from_body({"error": passing[0].model_dump()}, status=500)


def _own(
    batch: Gathered, name: str, result: TrajectoryResult, model: ModelInfo, second: ModelInfo | None = None
) -> MemberResult:
    """Return `result` as the member's own answer, with its own name for itself."""
    own = {
        "id": batch.members[name].id or name,
        "flags": result.flags + _FLAGS[batch.kind],
        "group_id": batch.group.key.group_id,
        "group_size_seen": len(batch.members),
        "model": model,
        "second_model": second,
        "config_hash": batch.group.key.config_hash,
    }
    return MemberResult(**{**dict(result), **own})
