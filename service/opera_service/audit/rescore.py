"""Scores logged groups again, on whatever model a client speaks to, and pairs old numbers with new ones.

Knows the client and the log; not how differences are shown.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from opera_client import AsyncRewardClient
from opera_client.errors import BodyTooLarge, InvalidRequest, ItemError
from opera_client.wire import Group, Trajectory, TrajectoryResult
from opera_service.audit import store
from opera_service.audit.entries import references_of
from opera_service.audit.store import Window

NOT_KEPT = "texts_not_kept"
"""Why a group cannot be scored again: it was recorded without --audit-texts."""


@dataclass(frozen=True)
class Numbers:
    """What a trajectory got, once."""

    reward: float
    mean_logprob: float | None
    components: Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """One trajectory, then and now; None where it had or has an error."""

    id: str
    then: Numbers | None
    now: Numbers | None
    why: str | None = None
    """Code of the error that it has now."""


@dataclass(frozen=True)
class RescoredGroup:
    """One group, then and now."""

    run_id: str | None
    step: int | None
    group_id: str
    then: str
    """Model, engine, dtype and weight version that gave the recorded numbers."""
    now: str | None
    same_config: bool
    """Reward, preset and overrides still mean the same configuration."""
    pairs: list[Pair] = field(default_factory=list)


async def rescore(
    client: AsyncRewardClient, log: sqlite3.Connection, window: Window, *, concurrency: int = 8
) -> AsyncIterator[RescoredGroup]:
    """Yield the groups of a window in order. Raises what speaks against all of them (an unreachable service)."""
    found = store.groups(log, window)
    while part := list(islice(found, concurrency)):
        for done in await asyncio.gather(*(_again(client, group, members) for group, members in part)):
            yield done


async def _again(client: AsyncRewardClient, group: sqlite3.Row, members: list[sqlite3.Row]) -> RescoredGroup:
    then = [_then(one) for one in members]
    results: list[TrajectoryResult] = []
    now: str | None = None
    same, why = True, NOT_KEPT
    if _kept(group):
        try:
            answer = await client.reward(
                [_group(group, members)],
                reward=group["reward"],
                preset=group["preset"],
                config=json.loads(group["config"]),
                detail="reward",
            )
        except (
            ItemError,
            InvalidRequest,
            BodyTooLarge,
        ) as error:  # its own fault, such as a preset that is no more
            why = error.code
        else:
            results = answer.groups[0].trajectories
            same = answer.config_hash == group["config_hash"]
            second = answer.second_model
            now = _name(answer.model.model_dump(), (second.name, second.weight_version) if second else None)
    pairs = [
        Pair(one["id"], old, _now(results[at]) if results else None, _error(results[at]) if results else why)
        for at, (one, old) in enumerate(zip(members, then, strict=True))
    ]
    known = {**dict(zip(group.keys(), group, strict=True)), "name": group["model"]}
    recorded = _name(known, known.get("second_model") and (known["second_model"], known["second_weight_version"]))
    return RescoredGroup(group["run_id"], group["step"], group["group_id"], recorded, now, same, pairs)


def _kept(group: sqlite3.Row) -> bool:
    return group["prompt"] is not None or group["prompt_token_ids"] is not None


def _group(group: sqlite3.Row, members: list[sqlite3.Row]) -> Group:
    prompt = json.loads(group["prompt"]) if group["prompt_is_messages"] else group["prompt"]
    return Group(
        group_id=group["group_id"],
        task=group["task"],
        prompt=prompt,
        prompt_token_ids=_ids(group["prompt_token_ids"]),
        reference=references_of(group["reference"]),
        reference_token_ids=_ids(group["reference_token_ids"]),
        trajectories=[_trajectory(one) for one in members],
    )


def _trajectory(one: sqlite3.Row) -> Trajectory:
    turns = store.if_kept(one, "turns")
    if turns is not None:
        return Trajectory(id=one["id"], turns=json.loads(turns))
    return Trajectory(
        id=one["id"],
        response=one["response"],
        response_token_ids=_ids(one["response_token_ids"]),
        response_mask=_ids(store.if_kept(one, "response_mask")),
    )


def _ids(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _then(one: sqlite3.Row) -> Numbers | None:
    if one["reward"] is None:
        return None
    return Numbers(one["reward"], one["mean_logprob"], json.loads(one["components"] or "{}"))


def _now(result: TrajectoryResult) -> Numbers | None:
    if result.reward is None:
        return None
    return Numbers(result.reward, result.mean_logprob, result.components or {})


def _error(result: TrajectoryResult) -> str | None:
    return None if result.error is None else result.error.code


def _name(model: Mapping[str, Any], second: tuple[str, str] | None) -> str:
    served = "{name} ({engine}, {dtype}), weight version {weight_version}".format_map(model)
    return served if second is None else f"{served}, against {second[0]}, weight version {second[1]}"
