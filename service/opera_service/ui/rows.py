"""Kept rows as the page's JSON: groups and trajectories in lists, and one group whole.

Rows of the log's tables in, plain objects out. Knows rewards by their registry only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import pstdev
from typing import Any

from opera_client.errors import InvalidRequest
from opera_service.audit.entries import references_of
from opera_service.audit.store import if_kept
from opera_service.observability.run_health import EQUAL
from opera_service.rewards.registry import resolve
from opera_service.ui.trends import mean_or_none
from opera_service.ui.visible import run_of

EXCERPT = 240
"""Characters of a text in a list; a group shown whole has all of it."""

Row = sqlite3.Row


def group_row(group: Row, members: Sequence[Row]) -> dict[str, Any]:
    """Return a group as lists show it."""
    rewards = [one["reward"] for one in members if one["reward"] is not None]
    components = [json.loads(one["components"]) for one in members if one["components"]]
    flags = [flag for one in members for flag in json.loads(one["flags"])]
    tokens = [one["response_tokens"] for one in members if one["response_tokens"] is not None]
    return {
        "key": group["key"],
        "run": run_of(group["run_id"]),
        "step": group["step"],
        "group_id": group["group_id"],
        "time": group["time"],
        "size": max(len(members), group["expected"] or 0),
        "scored": len(rewards),
        "reward": group["reward"],
        "preset": group["preset"],
        "weight_version": group["weight_version"],
        "mean": mean_or_none(rewards),
        "lowest": min(rewards, default=None),
        "highest": max(rewards, default=None),
        "spread": pstdev(rewards) if rewards else None,
        "equal": len(rewards) > 1 and max(rewards) - min(rewards) <= EQUAL,
        "components": mean_components(components),
        "flags": list(dict.fromkeys(flags)),
        "tokens": mean_or_none(tokens),
        "excerpt": _question(group),
    }


def trajectory_row(group: Row, members: Sequence[Row], position: int) -> dict[str, Any]:
    """Return one trajectory as lists show it, with what lifts it above its group."""
    one = next(member for member in members if member["position"] == position)
    rewards = [member["reward"] for member in members if member["reward"] is not None]
    components: dict[str, float] = json.loads(one["components"] or "{}")
    return {
        "key": group["key"],
        "position": position,
        "run": run_of(group["run_id"]),
        "step": group["step"],
        "group_id": group["group_id"],
        "id": one["id"],
        "reward": one["reward"],
        "rank": None if one["reward"] is None else 1 + sum(other > one["reward"] for other in rewards),
        "size": len(members),
        "components": components,
        "lead": _lead(group, members, components),
        "flags": json.loads(one["flags"]),
        "tokens": one["response_tokens"],
        "error": one["error"],
        "excerpt": excerpt(one["response"]),
        "twin": None,
    }


def group_detail(
    group: Row, members: Sequence[Row], *, previous: int | None, following: int | None
) -> dict[str, Any]:
    """Return a group whole, its texts in full."""
    listed = group_row(group, members)
    del listed["excerpt"]
    reference = references_of(group["reference"])
    return {
        **listed,
        "task": group["task"],
        "config": json.loads(group["config"]),
        "config_hash": group["config_hash"],
        "request_id": group["request_id"],
        "model": {name: group[name] for name in ("revision", "weight_version", "dtype", "engine")}
        | {"name": group["model"]},
        "formula": formula_of(group),
        "diagnostics": json.loads(group["diagnostics"] or "{}"),
        "prompt": json.loads(group["prompt"]) if group["prompt_is_messages"] else group["prompt"],
        "prompt_token_ids": _json(group["prompt_token_ids"]),
        "references": [reference] if isinstance(reference, str) else reference,
        "reference_token_ids": _json(group["reference_token_ids"]),
        "initial_mean_logprob": group["initial_mean_logprob"],
        "reference_tokens": group["reference_tokens"] or 0,
        "members": [_member(one) for one in members],
        "previous": previous,
        "next": following,
    }


def _member(one: Row) -> dict[str, Any]:
    segments = _json(one["segments"])
    error = one["error"]
    return {
        "id": one["id"],
        "fresh": bool(one["fresh"]),
        "status": one["status"],
        "reward": one["reward"],
        "components": _json(one["components"]),
        "mean_logprob": one["mean_logprob"],
        "flags": json.loads(one["flags"]),
        "error": None if error is None else {"code": error, "message": "This trajectory has no reward:"},
        "response": one["response"],
        "response_token_ids": _json(one["response_token_ids"]),
        "response_mask": _json(if_kept(one, "response_mask")),
        "turns": _json(if_kept(one, "turns")),
        "tokens": one["response_tokens"],
        "segments": segments and [{"text": None, **segment} for segment in segments],
    }


def formula_of(group: Row) -> dict[str, Any] | None:
    """Return how the group's reward comes from its components; None where its reward does not say, or is gone."""
    return _formula(group["reward"], group["preset"], group["config"], group["task"])


@lru_cache(256)
def _formula(reward: str, preset: str, config: str, task: str) -> dict[str, Any] | None:
    try:
        formula = resolve(reward, preset, json.loads(config)).formula(task)
    except InvalidRequest:
        return None
    return None if formula is None else formula.model_dump()


def _lead(group: Row, members: Sequence[Row], own: Mapping[str, float]) -> dict[str, Any] | None:
    """Return the component that adds most reward over the group's mean."""
    formula = formula_of(group)
    if formula is None or not own:
        return None
    means = mean_components([json.loads(one["components"]) for one in members if one["components"]])
    found = [
        (term["weight"] * (own[term["component"]] - means[term["component"]]), term["component"])
        for term in formula["terms"]
        if term["component"] in own
    ]
    amount, component = max(found, default=(0.0, ""))
    return {"component": component, "amount": amount} if amount > EQUAL else None


def mean_components(components: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each component's mean."""
    names = dict.fromkeys(name for one in components for name in one)
    return {name: sum(one.get(name, 0.0) for one in components) / len(components) for name in names}


def excerpt(text: str | None) -> str | None:
    """Return how a response begins, without the marks of its thought."""
    if text is None:
        return None
    return text.lstrip().removeprefix("<think>").lstrip()[:EXCERPT].replace("</think>", " → ")


def _question(group: Row) -> str | None:
    prompt = group["prompt"]
    if prompt is None:
        return None
    if group["prompt_is_messages"]:
        messages = json.loads(prompt)
        prompt = messages[-1]["content"] if messages else ""
    return str(prompt)[:EXCERPT]


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
