"""Is this answer an answer to that question? Lengths, ids, order and completeness, beyond the wire's types.

Knows no HTTP. Finite numbers and field types are the wire models' own business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from opera_client.errors import UnexpectedAnswer
from opera_client.wire import (
    BranchResult,
    CandidateResult,
    ErrorDetail,
    ExpandRequest,
    ExpandResult,
    Group,
    GroupResult,
    RankRequest,
    RankResult,
    RewardRequest,
    RewardResult,
    ScoreRequest,
    ScoreResult,
    Status,
)


def check_reward(request: RewardRequest, result: RewardResult) -> None:
    """Raise `UnexpectedAnswer` unless `result` answers every trajectory of `request`, in order."""
    if (result.reward, result.preset) != (request.reward, request.preset):
        raise UnexpectedAnswer(
            f"asked for reward {request.reward!r} ({request.preset!r}), got {result.reward!r} ({result.preset!r})"
        )
    _check_ids("groups", [g.group_id for g in request.groups], [g.group_id for g in result.groups])
    for number, (asked, got) in enumerate(zip(request.groups, result.groups, strict=True)):
        _check_group(f"groups.{number}", asked, got)


def check_rank(request: RankRequest, result: RankResult) -> None:
    """Raise `UnexpectedAnswer` unless every item has one place for every scored candidate."""
    _check_ids("items", [i.id for i in request.items], [i.id for i in result.items])
    for number, (asked, got) in enumerate(zip(request.items, result.items, strict=True)):
        if got.status == "error" and got.error is None:
            raise UnexpectedAnswer(f"items.{number}: status is error, but without a reason")
        if got.status == "ok":
            _check_ranking(f"items.{number}", len(asked.candidates), got.candidates, got.ranking)


def check_expand(request: ExpandRequest, result: ExpandResult) -> None:
    """Raise `UnexpectedAnswer` unless every item has its branches, and one place for every good one."""
    _check_ids("items", [i.id for i in request.items], [i.id for i in result.items])
    for number, (asked, got) in enumerate(zip(request.items, result.items, strict=True)):
        if got.status == "error" and got.error is None:
            raise UnexpectedAnswer(f"items.{number}: status is error, but without a reason")
        if got.status == "ok":
            _check_ranking(f"items.{number}", asked.n, got.candidates, got.ranking)


def check_score(request: ScoreRequest, result: ScoreResult) -> None:
    """Raise `UnexpectedAnswer` unless every item has its log-probability or its error."""
    _check_ids("items", [i.id for i in request.items], [i.id for i in result.items])
    for number, got in enumerate(result.items):
        _check_outcome(f"items.{number}", got.status, got.error, got.sum_logprob)


def _check_ids(where: str, asked: Sequence[str | None], got: Sequence[str]) -> None:
    if len(asked) != len(got):
        raise UnexpectedAnswer(f"{where}: asked about {len(asked)}, got {len(got)} answers")
    for number, (one, other) in enumerate(zip(asked, got, strict=True)):
        expected = str(number) if one is None else one
        if expected != other:
            raise UnexpectedAnswer(f"{where}.{number}: asked about id {expected!r}, got {other!r}")


def _check_outcome(where: str, status: Status, error: ErrorDetail | None, value: float | None) -> None:
    if status == "ok" and (value is None or not math.isfinite(value)):
        raise UnexpectedAnswer(f"{where}: status is ok, but there is no finite number")
    if status == "error" and (value is not None or error is None):
        raise UnexpectedAnswer(f"{where}: status is error, but with a number or without a reason")


def _check_group(where: str, asked: Group, got: GroupResult) -> None:
    _check_ids(f"{where}.trajectories", [t.id for t in asked.trajectories], [t.id for t in got.trajectories])
    if got.size != len(got.trajectories):
        raise UnexpectedAnswer(f"{where}: size {got.size}, but {len(got.trajectories)} trajectories")
    for place, trajectory in enumerate(got.trajectories):
        _check_outcome(f"{where}.trajectories.{place}", trajectory.status, trajectory.error, trajectory.reward)


def _check_ranking(where: str, asked: int, candidates: Sequence[CandidateResult], ranking: Sequence[int]) -> None:
    if len(candidates) != asked:
        raise UnexpectedAnswer(f"{where}: {asked} candidates asked, {len(candidates)} answered")
    for place, candidate in enumerate(candidates):
        if isinstance(candidate, BranchResult) and not candidate.token_ids:
            continue  # a branch that ended at once has no number
        _check_outcome(f"{where}.candidates.{place}", candidate.status, candidate.error, candidate.score)
    good = [place for place, candidate in enumerate(candidates) if candidate.status == "ok"]
    if sorted(ranking) != good:
        raise UnexpectedAnswer(f"{where}: the ranking {list(ranking)} is not an order of {good}")
