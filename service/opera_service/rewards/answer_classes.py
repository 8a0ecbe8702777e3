"""Which answers of a group say the same, for rewards that count them.

Words are compared here; what two boxed expressions are worth to each other is a question to math-verify, asked
before planning like those of `outcomes`. A pair that cannot be verified is not the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

from opera_service.rewards.boxes import last_box
from opera_service.rewards.config import Equality, RewardConfig
from opera_service.rewards.guards import malformed
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
    return said(trajectory.answer) or trajectory.answer.strip() or None


_OPTIONAL = re.compile("[\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]")
"""Signs that Hebrew and Arabic may write or leave out."""
_IDEOGRAPH = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")


def said(text: str) -> str:
    """Return the words of an answer, by which two are the same: case, punctuation, width and composition aside.

    Vowel signs belong to a word, a sign and a decimal point to a number: -5 is not 5, and 3.5 is not "3 5".
    """
    plain = unicodedata.normalize("NFKC", _OPTIONAL.sub("", text)).casefold().replace("\u2212", "-")
    plain = f" {unicodedata.normalize('NFC', plain)} "
    kept = ""
    for before, char, after in zip(plain, plain[1:], plain[2:], strict=False):
        is_mark = unicodedata.category(char)[0] == "M" and kept[-1:].strip() != ""
        in_number = char in ".,:/" and before.isdigit() and after.isdigit()
        is_minus = char == "-" and after.isdigit() and not before.isalnum()
        kept += char if char.isalnum() or is_mark or in_number or is_minus else " "
    return " ".join(_IDEOGRAPH.sub(r" \1 ", kept).split())
