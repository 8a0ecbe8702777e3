"""Right or wrong, for tasks that have an answer: fills `EncodedTrajectory.outcome`.

What text alone cannot tell is a question to math-verify; the pipeline asks `questions` before it plans and hands
the verdicts to `judge`. What cannot be verified is an error of that trajectory, never a wrong answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from opera_client.errors import OutcomeUnavailable
from opera_service.rewards.boxes import last_box, released_answer
from opera_service.rewards.config import Judge, RewardConfig
from opera_service.rewards.math_text import (
    is_denied,
    is_prose,
    is_single,
    rewritten,
    same_percent,
    same_unit,
    without_percent,
)
from opera_service.rewards.verifier import Question
from opera_service.rewards.verifier_pool import Verdict
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory

_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"[^\W\d_]{3,}(?: [^\W\d_]+)*")


class Judged(NamedTuple):
    """A group with its outcomes, and what could not be judged."""

    group: EncodedGroup
    """Without the trajectories that are in `errors`; untouched when the reward needs no outcome."""
    errors: Mapping[int, OutcomeUnavailable]
    """By position in the group that was given."""


def questions(group: EncodedGroup, config: RewardConfig) -> set[Question]:
    """Return what must be asked before the group can be judged."""
    if config.judge_of(group.task) != "math_verify":
        return set()
    found = (_boxed(trajectory, text) for trajectory in group.trajectories for text in _references(group))
    return {one for one in found if isinstance(one, Question)}


def judge(group: EncodedGroup, config: RewardConfig, verdicts: Mapping[Question, Verdict] | None = None) -> Judged:
    """Tell right from wrong where `config` asks for it (`judge_of`), by the verdicts on `questions`."""
    method = config.judge_of(group.task)
    if method is None:
        return Judged(group, {})
    texts = _references(group)
    judged: list[EncodedTrajectory] = []
    errors: dict[int, OutcomeUnavailable] = {}
    for position, trajectory in enumerate(group.trajectories):
        found = [_outcome(trajectory, text, method, verdicts or {}) for text in texts]
        unknown = next((one for one in found if isinstance(one, OutcomeUnavailable)), None)
        outcome = any(one is True for one in found)
        if unknown is not None and not outcome:
            errors[position] = unknown
        else:
            judged.append(replace(trajectory, outcome=outcome))
    return Judged(replace(group, trajectories=tuple(judged)), errors)


def _references(group: EncodedGroup) -> list[str]:
    """Return all texts of which an answer must be one."""
    return [group.reference, *(text for text, _ in group.alternatives)]


def _outcome(
    trajectory: EncodedTrajectory, reference: str, method: Judge, verdicts: Mapping[Question, Verdict]
) -> Verdict:
    if method == "boxed_exact":
        return released_answer(trajectory.scored_text) == reference.strip()
    found = _boxed(trajectory, reference)
    if isinstance(found, Question):
        return verdicts.get(found, OutcomeUnavailable("the answer was not verified"))
    return found


def _boxed(trajectory: EncodedTrajectory, reference: str) -> Verdict | Question:
    box = last_box(trajectory.answer)
    if last_box(reference) is None and is_prose(reference):
        return OutcomeUnavailable("the reference is prose; put the answer in it into \\boxed{…}")
    return False if box is None or is_denied(trajectory.answer, box) else same_answer(reference, box)


def same_answer(reference: str, answer: str) -> bool | Question:
    """Say whether the boxed `answer` is what `reference` says: as text, as words, or as mathematics (a question).

    The reference's last box counts when it has one, else the whole of it.
    """
    gold = last_box(reference)
    gold = reference.strip() if gold is None else gold
    left, right = _plain(gold), _plain(answer)
    if left == right:
        return True
    if _WORDS.fullmatch(left) and _WORDS.fullmatch(right):
        return left.casefold() == right.casefold()  # as products of letters, 'listen' would equal 'silent'
    if not (is_single(answer, gold) and same_percent(answer, gold) and same_unit(answer, gold)):
        return False
    gold, answer = (rewritten(without_percent(text)) for text in (gold, answer))
    return Question(_expression(gold), f"\\boxed{{{answer}}}")


def _plain(text: str) -> str:
    return " ".join(_TEXT.sub(r"\1", text).strip(" $.").split())


def _expression(gold: str) -> str:
    """Return the reference as math-verify is asked to read it: an expression, or prose that holds one."""
    return gold if "$" in gold or len(gold.split()) > 3 else f"\\boxed{{{gold}}}"
