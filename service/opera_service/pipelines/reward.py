"""POST /reward: whole groups of trajectories become rewards, with every number they were computed from.

Encode and plan in a worker thread; one tree a group; read in a worker thread. A trajectory that cannot
be scored has its own error, and its neighbours are ranked without it. It knows no reward by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from opera_client.errors import EngineFailed, InvalidRequest, OperaError
from opera_client.wire import (
    Detail,
    Group,
    GroupResult,
    ReferenceResult,
    RewardRequest,
    RewardResult,
    TrajectoryResult,
)
from opera_service.failures import or_raise
from opera_service.observability.rewarded import Rewarded, RewardedGroup, announce, telling_refusals
from opera_service.pipelines.group_message import message_of
from opera_service.pipelines.perplexity import perplexity, total_and_mean
from opera_service.pipelines.request_context import RequestContext
from opera_service.pipelines.reward_flags import flag_drift, flags_of
from opera_service.pipelines.reward_segments import segments_of, steps_of
from opera_service.pipelines.reward_views import encode_for, judge_for, questions_for, require_reference
from opera_service.pipelines.runtime import Runtime
from opera_service.pipelines.token_text import TokenText
from opera_service.rewards.base import GroupOutcome, Outcome
from opera_service.rewards.fitting import plan_fitting
from opera_service.rewards.for_group import for_group
from opera_service.rewards.reading import read_finite
from opera_service.rewards.registry import AnyReward, config_hash, resolve
from opera_service.rewards.verifier import Question
from opera_service.rewards.verifier_pool import Verdict
from opera_service.scoring.scores import NO_SCORES, TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.trajectories.encode import GroupEncoding
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory
from opera_service.trajectories.group_path import GroupPath


@dataclass(frozen=True)
class _Planned:
    """One group on its way."""

    errors: dict[int, OperaError]
    """By position in the request."""
    group: EncodedGroup | None = None
    """The trajectories without errors, in order; None when there is none."""
    tree: TokenTree | None = None
    """None when there is nothing to score, as with rewards that read no log-probs."""
    plan: Any = None


class _Settled(NamedTuple):
    """One group, read."""

    errors: dict[int, OperaError]
    """By position in the request."""
    group: EncodedGroup | None
    """The trajectories of `outcome`, in order."""
    outcome: GroupOutcome | None


async def score_groups(
    runtime: Runtime,
    request: RewardRequest,
    *,
    deadline: float | None = None,
    fresh: frozenset[str] | None = None,
    expected: int | None = None,
    path: Callable[[int], GroupPath] = GroupPath,
) -> RewardResult:
    """Score every trajectory that can be scored. `deadline` is a time of the runtime's clock.

    Only the trajectories in `fresh`, by id, count as new ones of the run; None: all of them. `expected` is the
    size of a single group that may not have all its members yet. `path` says how errors call the fields of a
    group, given its position.

    Raises `InvalidRequest` for an unknown reward, preset or configuration, when a group appears twice, and for one
    without the reference that the reward needs;
    `LimitExceeded`, `WeightVersionMismatch`, `Overloaded`; the first group's error when no group could be scored.
    """
    runtime.limits.check_groups(request.groups)
    chosen = resolve(request.reward, request.preset, request.config)
    second = runtime.second_for(chosen)
    _refuse_repeated_groups(request.groups)
    for index, group in enumerate(request.groups):
        require_reference(chosen, group, path(index).field("reference"))
    version = request.weight_version
    with (
        telling_refusals(request, runtime.refused),
        RequestContext(
            runtime, request, "groups", run_id=request.run_id, weight_version=version, deadline=deadline
        ) as context,
    ):
        error = await runtime.noise.logprob_error()
        encoded, asked = await context.encode(_encode_all, runtime, chosen, request, path, error)
        verdicts = await runtime.verifiers.verdicts(asked, run=request.run_id or "", deadline=deadline)
        longest = runtime.field_tokenizer.max_context
        plans = await context.plan(_plan_all, chosen, encoded, verdicts, longest)
        scores = await context.score([plan.tree for plan in plans])
        groups = await context.read(_read_all, context, chosen, request, plans, scores, path)
    # No await from here on: what the run's past adds to the answer, and what the answer adds to it, are one step.
    flag_drift(runtime.run_health, request.run_id, groups, fresh)
    rules = chosen.leading.config.ema
    outcomes = [one.outcome for one in groups if one.outcome is not None]
    named = request.run_id if fresh is None else None
    answer = RewardResult(
        model=context.model,
        second_model=second,
        reward=request.reward,
        preset=request.preset,
        config_hash=config_hash(chosen),
        components=list(chosen.components),
        groups=[group.result for group in groups],
        usage=context.usage,
        timing_ms=context.timing,
        ema_baseline=runtime.baselines.after(named, rules, outcomes) if rules and named else None,
    )
    announce(Rewarded(request, answer, chosen, tuple(groups), fresh, expected), runtime.subscribers)
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


def _encode_all(
    runtime: Runtime, chosen: AnyReward, request: RewardRequest, path: Callable[[int], GroupPath], error: float
) -> tuple[list[GroupEncoding], list[set[Question]]]:
    """Return the groups, and what is to be verified of each: to read hostile mathematics takes time, too."""
    explained = request.detail != "reward"
    encoded: list[GroupEncoding] = []
    for index, group in enumerate(request.groups):
        one = encode_for(chosen, group, index, runtime.field_tokenizer, path(index))
        asked = one.group and one.group.everywhere(explained=explained, logprob_error=error)
        encoded.append(replace(one, group=asked))
    return encoded, [questions_for(chosen, one.group) if one.group else set() for one in encoded]


def _plan_all(
    chosen: AnyReward, encoded: Sequence[GroupEncoding], verdicts: Mapping[Question, Verdict], longest: int
) -> list[_Planned]:
    return [_plan(chosen, encoding, verdicts, longest) for encoding in encoded]


def _plan(
    chosen: AnyReward, encoding: GroupEncoding, verdicts: Mapping[Question, Verdict], longest: int
) -> _Planned:
    errors = dict(encoding.errors)
    if encoding.group is None:
        return _Planned(errors)
    count = len(errors) + len(encoding.group.trajectories)
    positions = [at for at in range(count) if at not in errors]
    judged = judge_for(chosen, encoding.group, verdicts)
    errors |= {positions[at]: error for at, error in judged.errors.items()}
    positions = [at for at in range(count) if at not in errors]
    fitting = plan_fitting(chosen, judged.group, longest)
    errors |= {positions[at]: error for at, error in fitting.errors.items()}
    if not fitting.group.trajectories:
        return _Planned(errors)
    return _Planned(errors, fitting.group, fitting.tree, fitting.plan)


def _read_all(
    context: RequestContext,
    chosen: AnyReward,
    request: RewardRequest,
    plans: Sequence[_Planned],
    scores: Sequence[TreeScores | OperaError],
    path: Callable[[int], GroupPath],
) -> list[RewardedGroup]:
    settled = [_read(chosen, plan, answer) for plan, answer in zip(plans, scores, strict=True)]
    unread = [error for one in settled for error in one.errors.values() if isinstance(error, EngineFailed)]
    if unread and all(one.outcome is None for one in settled):
        raise unread[0]
    return [_group(context, request, index, one, path(index)) for index, one in enumerate(settled)]


def _read(chosen: AnyReward, plan: _Planned, answer: TreeScores | OperaError) -> _Settled:
    if plan.group is None:
        return _Settled(plan.errors, None, None)
    count = len(plan.errors) + len(plan.group.trajectories)
    positions = [at for at in range(count) if at not in plan.errors]
    reward = for_group(chosen, plan.group)
    try:
        if plan.tree is None:
            return _Settled(plan.errors, plan.group, reward.read(plan.group, plan.plan, NO_SCORES))
        reading = read_finite(reward, plan.group, plan.plan, plan.tree, or_raise(answer))
    except OperaError as error:
        return _Settled(plan.errors | dict.fromkeys(positions, error), plan.group, None)
    errors = {positions[at]: error for at, error in reading.errors.items()}
    return _Settled(plan.errors | errors, reading.group, reading.outcome)


def _group(
    context: RequestContext, request: RewardRequest, index: int, settled: _Settled, path: GroupPath
) -> RewardedGroup:
    group, (errors, encoded, outcome) = request.groups[index], settled
    tokens = request.detail == "tokens"
    scored: Iterator[tuple[EncodedTrajectory, Outcome, list[str]]] = iter(())
    if encoded and outcome:
        scored = iter(zip(encoded.trajectories, outcome.trajectories, flags_of(encoded, outcome), strict=True))
    results = []
    for at, trajectory in enumerate(group.trajectories):
        name = str(at) if trajectory.id is None else trajectory.id
        if at in errors:
            error = context.error(errors[at], path.trajectory(at))
            results.append(TrajectoryResult(id=name, status="error", error=error))
        else:
            results.append(_trajectory_result(name, *next(scored), request.detail))
    result = GroupResult(
        group_id=str(index) if group.group_id is None else group.group_id,
        size=len(results),
        scored=sum(one.status == "ok" for one in results),
        initial_mean_logprob=_summary(outcome.initial_logprobs)[1] if outcome else None,
        reference_tokens=len(encoded.reference_ids) if encoded else 0,
        initial_token_logprobs=outcome.initial_logprobs.tolist() if outcome and tokens else None,
        reference_token_texts=_texts(context.runtime, encoded) if encoded and tokens else None,
        trajectories=results,
        diagnostics=dict(outcome.diagnostics) if outcome else {},
        message=message_of(results),
    )
    return RewardedGroup(group, result, encoded, outcome)


def _trajectory_result(
    name: str, trajectory: EncodedTrajectory, outcome: Outcome, flags: list[str], detail: Detail
) -> TrajectoryResult:
    total, mean = _summary(outcome.token_logprobs)
    references = None
    if outcome.by_reference:
        sums = [(one.reward, *total_and_mean(one.token_logprobs)) for one in outcome.by_reference]
        references = [ReferenceResult(reward=own, sum_logprob=s, mean_logprob=m) for own, s, m in sums]
    return TrajectoryResult(
        id=name,
        status="ok",
        reward=outcome.reward,
        components=dict(outcome.components),
        mean_logprob=mean,
        sum_logprob=total,
        perplexity=None if mean is None else perplexity(mean),
        segments=None if detail == "reward" else segments_of(trajectory, outcome, tokens=detail == "tokens"),
        steps=steps_of(trajectory, outcome),
        token_logprobs=outcome.token_logprobs.tolist() if detail == "tokens" else None,
        response_tokens=trajectory.response_tokens,
        token_rewards=None if outcome.token_rewards is None else outcome.token_rewards.tolist(),
        token_weights=None if outcome.token_weights is None else outcome.token_weights.tolist(),
        references=references,
        flags=flags,
    )


def _summary(logprobs: NDArray[np.floating]) -> tuple[float | None, float | None]:
    """Return sum and mean; None for a reward that prices no reference."""
    return total_and_mean(logprobs) if len(logprobs) else (None, None)


def _texts(runtime: Runtime, group: EncodedGroup) -> list[str]:
    return TokenText(runtime.tokenizer, group.reference_ids).tokens
