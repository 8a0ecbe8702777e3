"""POST /reward: whole groups of trajectories become rewards, with every number they were computed from.

Encode, judge and plan in a worker thread; one tree a group; read in a worker thread. A trajectory that cannot
be scored has its own error, and its neighbours are ranked without it. It knows no reward by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from opera_client.errors import EngineFailed, InvalidRequest, OperaError
from opera_client.wire import (
    Detail,
    Group,
    GroupResult,
    RewardRequest,
    RewardResult,
    SegmentResult,
    TrajectoryResult,
)
from opera_service.pipelines.request_context import RequestContext, or_raise, perplexity, total_and_mean
from opera_service.pipelines.reward_audit import entries_of
from opera_service.pipelines.reward_flags import flags_of
from opera_service.pipelines.service import Service
from opera_service.pipelines.token_text import TokenText
from opera_service.rewards.base import GroupOutcome, Outcome
from opera_service.rewards.outcomes import judge
from opera_service.rewards.reading import read_finite
from opera_service.rewards.registry import AnyReward, config_hash, resolve
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree, TreeBuilder
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory


@dataclass(frozen=True)
class _Planned:
    """One group on its way."""

    errors: dict[int, OperaError]
    """By position in the request."""
    group: EncodedGroup | None = None
    """The trajectories without errors, in order; None when there is none."""
    tree: TokenTree | None = None
    plan: Any = None


class _Settled(NamedTuple):
    """One group, read."""

    errors: dict[int, OperaError]
    """By position in the request."""
    group: EncodedGroup | None
    """The trajectories of `outcome`, in order."""
    outcome: GroupOutcome | None


class _Read(NamedTuple):
    """All groups of a request, read."""

    results: list[GroupResult]
    outcomes: list[GroupOutcome]


async def reward(
    service: Service,
    request: RewardRequest,
    *,
    deadline: float | None = None,
    fresh: Collection[str] | None = None,
) -> RewardResult:
    """Score every trajectory that can be scored. `deadline` is a time of the service's clock.

    Only the trajectories in `fresh`, by id, count as new ones of the run; None: all of them.

    Raises `InvalidRequest` for an unknown reward, preset or configuration, and when a group appears twice;
    `LimitExceeded`, `WeightVersionMismatch`, `Overloaded`; the first group's error when no group could be scored.
    """
    service.limits.check_groups(request.groups)
    chosen = resolve(request.reward, request.preset, request.config)
    _refuse_repeated_groups(request.groups)
    version = request.weight_version
    with RequestContext(
        service, request, "groups", run_id=request.run_id, weight_version=version, deadline=deadline
    ) as context:
        plans = await context.encode(_plan_all, service, chosen, request.groups)
        scores = await context.score([plan.tree for plan in plans])
        read = await context.read(_read_all, context, chosen, request, plans, scores, fresh)
    rules = chosen.config.ema
    named = request.run_id if fresh is None else None
    baseline = service.baselines.update(named, rules, read.outcomes) if rules and named else None
    answer = RewardResult(
        model=context.model,
        reward=request.reward,
        preset=request.preset,
        config_hash=config_hash(chosen),
        components=list(chosen.components),
        groups=read.results,
        usage=context.usage,
        timing_ms=context.timing,
        ema_baseline=baseline,
    )
    if (log := service.audit) is not None:
        for entry in entries_of(request, answer, fresh=fresh, keep_sent=log.keep_sent):
            log.record(entry)
        if request.detail == "reward":  # thoughts were read for the log alone
            for one in (one for group in answer.groups for one in group.trajectories):
                one.segments = None
    return answer


def _refuse_repeated_groups(groups: Sequence[Group]) -> None:
    """A group that comes in pieces would be ranked piece by piece, silently (defect D10)."""
    seen: set[str] = set()
    for index, group in enumerate(groups):
        name = str(index) if group.group_id is None else group.group_id
        if name in seen:
            raise InvalidRequest(
                f"group {name!r} appears twice (without a group_id it is the position); "
                "put all its trajectories into one group, or name all groups",
                field=f"groups.{index}.group_id",
            )
        seen.add(name)


def _plan_all(service: Service, chosen: AnyReward, groups: Sequence[Group]) -> list[_Planned]:
    return [_plan(service, chosen, group, index) for index, group in enumerate(groups)]


def _plan(service: Service, chosen: AnyReward, group: Group, index: int) -> _Planned:
    encoding = encode_group(group, index, service.field_tokenizer, chosen.config)
    errors = dict(encoding.errors)
    if encoding.group is None:
        return _Planned(errors)
    positions = [at for at in range(len(group.trajectories)) if at not in errors]
    judged = judge(encoding.group, chosen.config)
    errors |= {positions[at]: error for at, error in judged.errors.items()}
    if not judged.group.trajectories:
        return _Planned(errors)
    builder = TreeBuilder()
    plan = chosen.plan(judged.group, builder)
    return _Planned(errors, judged.group, builder.build(), plan)


def _read_all(
    context: RequestContext,
    chosen: AnyReward,
    request: RewardRequest,
    plans: Sequence[_Planned],
    scores: Sequence[TreeScores | OperaError],
    fresh: Collection[str] | None,
) -> _Read:
    settled = [_read(chosen, plan, answer) for plan, answer in zip(plans, scores, strict=True)]
    outcomes = [one.outcome for one in settled if one.outcome is not None]
    unread = [error for one in settled for error in one.errors.values() if isinstance(error, EngineFailed)]
    if unread and not outcomes:
        raise unread[0]
    results = [_group_result(context, request, index, one, fresh) for index, one in enumerate(settled)]
    return _Read(results, outcomes)


def _read(chosen: AnyReward, plan: _Planned, answer: TreeScores | OperaError) -> _Settled:
    if plan.group is None or plan.tree is None:
        return _Settled(plan.errors, None, None)
    count = len(plan.errors) + len(plan.group.trajectories)
    positions = [at for at in range(count) if at not in plan.errors]
    try:
        reading = read_finite(chosen, plan.group, plan.plan, plan.tree, or_raise(answer))
    except OperaError as error:
        return _Settled(plan.errors | dict.fromkeys(positions, error), plan.group, None)
    errors = {positions[at]: error for at, error in reading.errors.items()}
    return _Settled(plan.errors | errors, reading.group, reading.outcome)


def _group_result(
    context: RequestContext,
    request: RewardRequest,
    index: int,
    settled: _Settled,
    fresh: Collection[str] | None,
) -> GroupResult:
    group, (errors, encoded, outcome) = request.groups[index], settled
    logged = context.service.audit is not None and request.detail == "reward"
    detail: Detail = "segments" if logged else request.detail
    tokens = detail == "tokens"
    scored: Iterator[tuple[EncodedTrajectory, Outcome, list[str]]] = iter(())
    if encoded and outcome:
        flags = flags_of(context.service, request.run_id, encoded, outcome, fresh=fresh)
        scored = iter(zip(encoded.trajectories, outcome.trajectories, flags, strict=True))
    results = []
    for at, trajectory in enumerate(group.trajectories):
        name = str(at) if trajectory.id is None else trajectory.id
        if at in errors:
            error = context.error(errors[at], f"groups.{index}.trajectories.{at}")
            results.append(TrajectoryResult(id=name, status="error", error=error))
        else:
            results.append(_trajectory_result(name, *next(scored), detail))
    rewards = [one.reward for one in results if one.reward is not None]
    context.service.metrics.group(
        request.reward,
        request.preset,
        rewards,
        components=[one.components for one in results if one.components is not None],
        errors=len(results) - len(rewards),
    )
    return GroupResult(
        group_id=str(index) if group.group_id is None else group.group_id,
        size=len(results),
        scored=len(rewards),
        initial_mean_logprob=total_and_mean(outcome.initial_logprobs)[1] if outcome else None,
        reference_tokens=len(encoded.reference_ids) if encoded else 0,
        initial_token_logprobs=outcome.initial_logprobs.tolist() if outcome and tokens else None,
        reference_token_texts=_texts(context.service, encoded) if encoded and tokens else None,
        trajectories=results,
        diagnostics=dict(outcome.diagnostics) if outcome else {},
    )


def _trajectory_result(
    name: str, trajectory: EncodedTrajectory, outcome: Outcome, flags: list[str], detail: Detail
) -> TrajectoryResult:
    total, mean = total_and_mean(outcome.token_logprobs)
    return TrajectoryResult(
        id=name,
        status="ok",
        reward=outcome.reward,
        components=dict(outcome.components),
        mean_logprob=mean,
        sum_logprob=total,
        perplexity=perplexity(mean),
        segments=None if detail == "reward" else _segments(trajectory, outcome, tokens=detail == "tokens"),
        token_logprobs=outcome.token_logprobs.tolist() if detail == "tokens" else None,
        response_tokens=trajectory.response_tokens,
        flags=flags,
    )


def _texts(service: Service, group: EncodedGroup) -> list[str]:
    return TokenText(service.tokenizer, group.reference_ids).tokens


def _segments(trajectory: EncodedTrajectory, outcome: Outcome, *, tokens: bool) -> list[SegmentResult]:
    """Return the priced segments; rewards that price only the end of a trajectory have none."""
    if not outcome.segments:
        return []
    return [
        SegmentResult(
            index=index,
            start=segment.start,
            end=segment.end,
            text=segment.text,
            reflective=segment.reflective,
            mean_logprob=priced.mean_logprob,
            gain=priced.gain,
            credited=priced.credited,
            token_logprobs=priced.token_logprobs.tolist() if tokens else None,
        )
        for index, (segment, priced) in enumerate(zip(trajectory.segments, outcome.segments, strict=True))
    ]
