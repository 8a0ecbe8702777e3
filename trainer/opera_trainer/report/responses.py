"""Sampled responses as groups that the live page's code draws: one member a stage. Data only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opera_trainer.artefacts import Rollout
from opera_trainer.report.gathered import Sample


def groups(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the samples as `ui/src/offline/Groups.tsx` has them."""
    return {"groups": [_group(one) for one in samples], "total": len(samples)}


def _group(sample: Sample) -> dict[str, Any]:
    first = next(iter(sample.responses.values()))
    rewards = [one.reward for one in sample.responses.values() if one.reward is not None]
    return {
        "group_id": f"{first.task_id} ({sample.tier})",
        "scored": len(rewards),
        "lowest": min(rewards, default=None),
        "highest": max(rewards, default=None),
        "config": {},
        "formula": None,
        "diagnostics": {},
        "prompt": [message.model_dump(include={"role", "content"}) for message in first.prompt],
        "prompt_token_ids": None,
        "references": [first.reference],
        "reference_token_ids": None,
        "initial_mean_logprob": first.initial_mean_logprob,
        "reference_tokens": None,
        "members": [_member(stage, one) for stage, one in sample.responses.items()],
    }


def _member(stage: str, one: Rollout) -> dict[str, Any]:
    shown = {"reward", "components", "mean_logprob", "flags", "response", "tokens", "segments", "right"}
    return {
        **one.model_dump(mode="json", include=shown, exclude={"segments": {"__all__": {"token_logprobs"}}}),
        "id": stage,
        "fresh": True,
        "status": "ok",
        "error": None,
        "response_token_ids": None,
    }
