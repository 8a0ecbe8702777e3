"""What is logged beside the reward: exact answers and the shape of responses. Never part of any reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from opera_trainer.artefacts import Task
from opera_trainer.tasks.checks import is_right


def watched(
    completions: Sequence[Any], task: Sequence[str], log_metric: Callable[[str, float], None], **_: Any
) -> list[None]:
    """A TRL reward function that rewards nothing: None leaves the reward as it is."""
    texts = [completion if isinstance(completion, str) else completion[0]["content"] for completion in completions]
    known = (is_right(Task.model_validate_json(line), text) for line, text in zip(task, texts, strict=True))
    checked = [right for right in known if right is not None]
    if checked:
        log_metric("watched/right", fmean(checked))
    for name, value in shape(texts).items():
        log_metric(f"watched/{name}", value)
    return [None] * len(texts)


def shape(texts: Sequence[str]) -> dict[str, float]:
    """Return the share of empty thoughts, and means of segments and characters a response."""
    thoughts = [text.partition("<think>")[2].partition("</think>")[0].strip() for text in texts]
    segments = [len([part for part in thought.split("\n\n") if part.strip()]) for thought in thoughts]
    return {
        "empty_thought": fmean(not thought for thought in thoughts),
        "segments": fmean(segments),
        "characters": fmean(map(len, texts)),
    }
