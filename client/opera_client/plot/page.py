"""Scored groups as one HTML file: the data as JSON, the look and the drawing in page.css and page.js beside this.

Knows results, not where they come from. plotly.js is embedded, so the page opens without a network.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from opera_client.wire import Group, GroupResult, Prompt, SegmentResult, Trajectory, TrajectoryResult, texts_of


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
        ModuleNotFoundError: plotly is not installed.
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
    from plotly.offline import get_plotlyjs

    asked = groups if groups is not None else [None] * len(results)
    data = {
        "groups": [_group(result, group) for result, group in zip(results, asked, strict=True)],
        "total": len(results) if total is None else total,
    }
    parts = {
        "FACTS": html.escape(_facts(run or {})),
        "CSS": _resource("page.css"),
        "PLOTLY": get_plotlyjs(),
        # `</script>` inside a text must not end the element it travels in.
        "DATA": json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        "JS": _resource("page.js"),
    }
    text, *rest = _resource("page.html").split("{{")
    for piece in rest:
        name, _, tail = piece.partition("}}")
        text += parts[name] + tail
    return text


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


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
    trajectories = group.trajectories if group else [None] * len(result.trajectories)
    return {
        "id": result.group_id,
        "prompt": _prompt(group.prompt) if group else None,
        "reference": " · ".join(texts_of(group.reference)) if group else None,
        "initial": result.initial_mean_logprob,
        "tokens": result.reference_tokens,
        "trajectories": [
            _trajectory(scored, asked) for scored, asked in zip(result.trajectories, trajectories, strict=True)
        ],
    }


def _prompt(prompt: Prompt | None) -> str | None:
    if prompt is None or isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def _trajectory(scored: TrajectoryResult, asked: Trajectory | None) -> dict[str, Any]:
    response = asked.response if asked else None
    return {
        "id": scored.id,
        "reward": scored.reward,
        "components": scored.components or {},
        "final": scored.mean_logprob,
        "segments": [_segment(segment) for segment in scored.segments or ()],
        "answer": response.rpartition("</think>")[2].strip() if response else None,
        "flags": scored.flags,
        "error": f"{scored.error.code}: {scored.error.message}" if scored.error else None,
    }


def _segment(segment: SegmentResult) -> dict[str, Any]:
    return {
        "text": segment.text.strip(),
        "reflective": segment.reflective,
        "credited": segment.credited,
        "logprob": segment.mean_logprob,
        "gain": segment.gain,
    }
