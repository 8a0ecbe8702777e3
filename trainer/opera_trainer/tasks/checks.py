"""Exact checks of responses, by name. Evaluation only: no reward ever sees one. Knows no model."""

from __future__ import annotations

from collections.abc import Callable

from opera_trainer.artefacts import Task

Check = Callable[[str, str], bool]
"""(answer, reference) → right. The answer is what follows the think block."""


def is_right(task: Task, response: str) -> bool | None:
    """Tell whether a whole response answers the task; None when the task has no check."""
    return None if task.check is None else CHECKS[task.check](answer_of(response), task.reference)


def answer_of(response: str) -> str:
    """Return what follows the think block; nothing when the block is never closed."""
    opened, closed = "<think>" in response, "</think>" in response
    return "" if opened and not closed else response.rpartition("</think>")[2].removesuffix("<|im_end|>").strip()


def exact(answer: str, reference: str) -> bool:
    """Equal up to white space."""
    return answer.split() == reference.split()


def math(answer: str, reference: str) -> bool:
    """Mathematically equal, by math-verify: the last boxed or final expression of the answer counts."""
    from math_verify import parse, verify

    if not answer.strip():
        return False
    # No timers: they need the main thread, and a hostile expression is an evaluation's own risk.
    gold, found = (parse(text, parsing_timeout=None) for text in (reference, answer))
    return bool(gold and found and verify(gold, found, timeout_seconds=None))


CHECKS: dict[str, Check] = {"exact": exact, "math": math}
