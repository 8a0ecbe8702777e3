"""Exact checks of responses, for evaluation only: no reward and no filter of training data sees them."""

from __future__ import annotations

from collections.abc import Callable

from opera_trainer.artefacts import Task


def answer_of(response: str) -> str:
    """Return what follows the think block; the whole response when none was closed."""
    return response.rpartition("</think>")[2].removesuffix("<|im_end|>").strip()


def _sentence(task: Task, response: str) -> bool:
    return answer_of(response) == task.reference.strip()


CHECKS: dict[str, Callable[[Task, str], bool]] = {"sentence": _sentence}
"""Name → check; `sentence`: the answer is the reference, letter by letter."""


def is_right(task: Task, response: str) -> bool | None:
    """Tell whether a response is right; None where the task has no exact check."""
    return None if task.check is None else CHECKS[task.check](task, response)
