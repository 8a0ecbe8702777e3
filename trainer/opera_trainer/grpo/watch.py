"""What is logged beside the reward: exact answers, second references, the shape of responses. Never rewarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from statistics import fmean
from typing import Any

from opera_trainer.artefacts import Task
from opera_trainer.judges.overlap import chrf
from opera_trainer.tasks.checks import answer_of, is_right


class Watch:
    """A TRL reward function that rewards nothing: None leaves the reward as it is.

    Args:
        seconds: second references by task; they are known here only, and in no column that a reward could read.
    """

    __name__ = "watched"

    def __init__(self, seconds: Mapping[str, str] | None = None) -> None:
        self._seconds = dict(seconds or {}) if find_spec("sacrebleu") is not None else {}

    def __call__(
        self, completions: Sequence[Any], task: Sequence[str], log_metric: Callable[[str, float], None], **_: Any
    ) -> list[None]:
        """Log the means of a batch; arguments are TRL's."""
        texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
        tasks = [Task.model_validate_json(line) for line in task]
        both = list(zip(tasks, texts, strict=True))
        checked = [right for one, text in both if (right := is_right(one, text)) is not None]
        if checked:
            log_metric("watched/right", fmean(checked))
        overlaps = [chrf(answer_of(text), self._seconds[one.id]) for one, text in both if one.id in self._seconds]
        if overlaps:
            log_metric("watched/chrf", fmean(overlaps))
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
