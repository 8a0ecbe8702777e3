"""Which answers of a group say the same, for rewards that count them.

Words are compared here; what two boxed expressions are worth to each other is a question to math-verify, asked
before planning like those of `outcomes`. A pair that cannot be verified is not the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

from opera_service.rewards.boxes import last_box
from opera_service.rewards.config import Equality, RewardConfig
from opera_service.rewards.guards import malformed, words
from opera_service.rewards.outcomes import same_answer
from opera_service.rewards.verifier import Question
from opera_service.rewards.verifier_pool import Verdict
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory


def class_questions(group: EncodedGroup, config: RewardConfig) -> set[Question]:
    """Return what must be asked before the group can be classified: one question a pair of different boxes."""
    if config.classes_of(group.task) != "math":
        return set()
    return {found for _, _, found in _pairs(_answers(group, "math")) if isinstance(found, Question)}


def classified(
    group: EncodedGroup, config: RewardConfig, verdicts: Mapping[Question, Verdict] | None = None
) -> EncodedGroup:
    """Return the group with `classes`, numbered by first appearance; untouched where `config` needs none."""
    equality = config.classes_of(group.task)
    if equality is None:
        return group
    answers = _answers(group, equality)
    parent = {one: one for one in answers if one is not None}

    def root(one: str) -> str:
        while parent[one] != one:
            one = parent[one]
        return one

    if equality == "math":
        for left, right, found in _pairs(answers):
            same = (verdicts or {}).get(found) if isinstance(found, Question) else found
            if same is True:
                parent[root(right)] = root(left)
    numbers: dict[str, int] = {}
    return replace(
        group,
        classes=tuple(None if one is None else numbers.setdefault(root(one), len(numbers)) for one in answers),
    )


def _pairs(answers: list[str | None]) -> Iterator[tuple[str, str, bool | Question]]:
    distinct = dict.fromkeys(one for one in answers if one is not None)
    for left, right in combinations(distinct, 2):
        yield left, right, same_answer(f"\\boxed{{{left}}}", right)


def _answers(group: EncodedGroup, equality: Equality) -> list[str | None]:
    return [_answer(one, equality) for one in group.trajectories]


def _answer(trajectory: EncodedTrajectory, equality: Equality) -> str | None:
    """Return what is compared; None where nothing is answered, or the response is malformed."""
    if malformed(trajectory):
        return None
    if equality == "math":
        return last_box(trajectory.answer)
    return " ".join(words(trajectory.answer)) or trajectory.answer.strip() or None
