"""Right or wrong, for tasks that have an answer: fills `EncodedTrajectory.outcome`.

Blocking, up to seconds for a hostile expression: the pipeline calls `judge` off the event loop, before it plans.
What cannot be verified is an error of that trajectory, never a wrong answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.boxes import last_box, released_answer
from opera_service.rewards.config import Judge, RewardConfig
from opera_service.rewards.verifier import Verifier, shared
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory

_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{3,}(?: [^\W\d_]+)*")


class Judged(NamedTuple):
    """A group with its outcomes, and what could not be judged."""

    group: EncodedGroup
    """Without the trajectories that are in `errors`; untouched when the reward needs no outcome."""
    errors: Mapping[int, OutcomeUnavailable]
    """By position in the group that was given."""


def judge(group: EncodedGroup, config: RewardConfig, *, verifier: Verifier | None = None) -> Judged:
    """Tell right from wrong where `config` asks for it (`RewardConfig.judge_of`). Blocking."""
    method = config.judge_of(group.task)
    if method is None:
        return Judged(group, {})
    judged: list[EncodedTrajectory] = []
    errors: dict[int, OutcomeUnavailable] = {}
    for position, trajectory in enumerate(group.trajectories):
        try:
            outcome = _outcome(trajectory, group.reference, method, verifier)
        except OutcomeUnavailable as problem:
            errors[position] = problem
        else:
            judged.append(replace(trajectory, outcome=outcome))
    return Judged(replace(group, trajectories=tuple(judged)), errors)


def _outcome(trajectory: EncodedTrajectory, reference: str, method: Judge, verifier: Verifier | None) -> bool:
    if method == "boxed_exact":
        return released_answer(trajectory.text) == reference.strip()
    box = last_box(trajectory.answer)
    return box is not None and same_answer(reference, box, verifier=verifier)


def same_answer(reference: str, answer: str, *, verifier: Verifier | None = None) -> bool:
    """Say whether the boxed `answer` is what `reference` says: equal text, equal words or equal mathematics.

    The reference's last box counts when it has one, else the whole of it. Raises OutcomeUnavailable.
    """
    gold = last_box(reference)
    gold = reference.strip() if gold is None else gold
    left, right = _plain(gold), _plain(answer)
    if left == right:
        return True
    if _WORDS.fullmatch(left) and _WORDS.fullmatch(right):
        return left.casefold() == right.casefold()  # as products of letters, 'listen' would equal 'silent'
    return (verifier or shared()).equal(_expression(gold), f"\\boxed{{{answer}}}")


def _plain(text: str) -> str:
    return " ".join(_TEXT.sub(r"\1", text).strip(" $.").split())


def _expression(gold: str) -> str:
    """Return the reference as math-verify is asked to read it: an expression, or prose that holds one."""
    return gold if "$" in gold or len(gold.split()) > 3 else f"\\boxed{{{gold}}}"
