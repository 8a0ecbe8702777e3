"""Scored groups as one HTML file, drawn by the same code as a group on the live page.

Knows results, not where they come from.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from opera_client.plot import drawn
from opera_client.wire import Group, GroupResult, Trajectory, TrajectoryResult, texts_of


def write_page(
    path: Path,
    results: Sequence[GroupResult],
    groups: Sequence[Group] | None = None,
    *,
    run: Mapping[str, Any] | None = None,
    total: int | None = None,
) -> None:
    """Write the page about `results`.

    Args:
        path: the HTML file, overwritten.
        results: what was scored, with `detail` at least `segments` for the curves.
        groups: what was asked, in the same order: prompts, references and final answers.
        run: reward, preset, config and model behind the numbers, shown at the top.
        total: how many groups there were, when `results` are only the first of them.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(page(results, groups, run=run, total=total), encoding="utf-8")


def page(
    results: Sequence[GroupResult],
    groups: Sequence[Group] | None = None,
    *,
    run: Mapping[str, Any] | None = None,
    total: int | None = None,
) -> str:
    """Return the page as text; arguments as for `write_page`."""
    asked = groups if groups is not None else [None] * len(results)
    data = {
        "groups": [_group(result, group) for result, group in zip(results, asked, strict=True)],
        "total": len(results) if total is None else total,
    }
    parts = {
        "POLICY": drawn.POLICY,
        "CSS": drawn.style(),
        "FACTS": html.escape(_facts(run or {})),
        "GROUPS": drawn.part("groups", data),
        "JS": drawn.script(),
    }
    text, *rest = files(__package__).joinpath("page.html").read_text(encoding="utf-8").split("{{")
    for piece in rest:
        name, _, tail = piece.partition("}}")
        text += parts[name] + tail
    return text


def _facts(run: Mapping[str, Any]) -> str:
    model = run.get("model") or {}
    config = ", ".join(f"{key}={value}" for key, value in (run.get("config") or {}).items())
    facts = [
        f"reward {run['reward']}" if "reward" in run else "",
        f"preset {run['preset']}" if "preset" in run else "",
        config,
        f"model {model['name']}" if "name" in model else "",
        f"weights {model['weight_version']}" if "weight_version" in model else "",
        str(model.get("dtype", "")),
    ]
    return " · ".join(fact for fact in facts if fact)


def _group(result: GroupResult, group: Group | None) -> dict[str, Any]:
    """Return a group as `ui/src/api/types.ts` has it; what a service alone knows is left out."""
    trajectories = group.trajectories if group else [None] * len(result.trajectories)
    rewards = [one.reward for one in result.trajectories if one.reward is not None]
    reference = group.reference if group else None
    return {
        "group_id": result.group_id,
        "scored": result.scored,
        "lowest": min(rewards, default=None),
        "highest": max(rewards, default=None),
        "config": {},
        "formula": None,
        "diagnostics": result.diagnostics,
        "prompt": _prompt(group),
        "prompt_token_ids": group.prompt_token_ids if group else None,
        "references": None if reference is None else list(texts_of(reference)),
        "reference_token_ids": group.reference_token_ids if group else None,
        "initial_mean_logprob": result.initial_mean_logprob,
        "reference_tokens": result.reference_tokens,
        "members": [
            _member(scored, asked) for scored, asked in zip(result.trajectories, trajectories, strict=True)
        ],
    }


def _prompt(group: Group | None) -> str | list[dict[str, str]] | None:
    prompt = group.prompt if group else None
    if isinstance(prompt, list):
        return [{"role": message.role, "content": message.content} for message in prompt]
    return prompt


def _member(scored: TrajectoryResult, asked: Trajectory | None) -> dict[str, Any]:
    shown = {"id", "status", "reward", "components", "mean_logprob", "flags", "segments"}
    return {
        **scored.model_dump(mode="json", include=shown, exclude={"segments": {"__all__": {"token_logprobs"}}}),
        "fresh": True,
        "error": scored.error.model_dump(include={"code", "message"}) if scored.error else None,
        "tokens": scored.response_tokens,
        "response": asked.response if asked else None,
        "response_token_ids": asked.response_token_ids if asked else None,
    }
