"""Groups by the rules of every term of a reward: encoded once for equal rules, judged term by term.

A trajectory that one term cannot take is none of the others' either, so that a sum never misses a term.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from opera_client.errors import InvalidRequest, OperaError, OutcomeUnavailable
from opera_client.wire import Group, MemberRequest
from opera_service.rewards.answer_classes import class_questions, classified
from opera_service.rewards.outcomes import Judged, judge, questions
from opera_service.rewards.registry import AnyReward
from opera_service.rewards.verifier import Question
from opera_service.rewards.verifier_pool import Verdict
from opera_service.trajectories.encode import GroupEncoding, encode_group
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.group_path import GroupPath
from opera_service.trajectories.judge_prompts import JudgeRules, judging_of


def require_reference(chosen: AnyReward, asked: Group | MemberRequest, field: str) -> None:
    """Raise `InvalidRequest` when the reward reads a reference and there is none."""
    missing = asked.reference is None and asked.reference_token_ids is None
    needing = [part.name for part in chosen.parts if _reads_reference(part, asked.task)]
    if missing and needing:
        raise InvalidRequest(
            f"{needing[0]} needs a reference: give `reference` or `reference_token_ids`, or ask for a reward that "
            "GET /rewards lists without that need",
            field=field,
        )


def _reads_reference(part: AnyReward, task: str) -> bool:
    """Whether `part` prices the reference, or is told right from wrong by it."""
    return "reference" in part.needs or part.config.judge_of(task) is not None


def encode_for(
    chosen: AnyReward, group: Group, index: int, fields: FieldTokenizer, path: GroupPath
) -> GroupEncoding:
    """Encode the group as `chosen` reads it; for a sum, with one view a term. Raises nothing."""
    known: dict[object, GroupEncoding] = {}
    found: list[GroupEncoding] = []
    for part in chosen.parts:
        rules, needs = part.config, _reads_reference(part, group.task)
        key = (rules.think, rules.segment, rules.reflection_words, rules.context, rules.judge_rules(), needs)
        if key not in known:
            encoded = encode_group(group, index, fields, rules, path, needs_reference=needs)
            known[key] = _judged_by(rules.judge_rules(), group, encoded, fields)
        found.append(known[key])
    if chosen.parts == (chosen,):
        return found[0]
    errors: dict[int, OperaError] = {}
    for one in found:
        errors = one.errors | errors
    views = tuple(view for one in found if (view := _without(one, errors)) is not None)
    if len(views) < len(found):
        return GroupEncoding(None, errors)
    return GroupEncoding(replace(views[chosen.lead], views=views), errors)


def _judged_by(
    rules: JudgeRules | None, asked: Group, encoding: GroupEncoding, fields: FieldTokenizer
) -> GroupEncoding:
    """Return the encoding with a judge's prompts, where one is asked; without those whose answers do not fit."""
    group = encoding.group
    if rules is None or group is None:
        return encoding
    try:
        judging, too_long = judging_of(asked, group, fields, rules)
    except OperaError as error:
        return GroupEncoding(None, dict.fromkeys(range(len(asked.trajectories)), error))
    places = [at for at in range(len(asked.trajectories)) if at not in encoding.errors]
    names = [one.id for one in group.trajectories]
    errors = {at: too_long[name] for at, name in zip(places, names, strict=True) if name in too_long}
    kept = [place for place, name in enumerate(names) if name not in too_long]
    rest = replace(group, judging=judging).only(kept) if kept else None
    return GroupEncoding(rest, {**encoding.errors, **errors})


def _without(encoding: GroupEncoding, errors: Mapping[int, OperaError]) -> EncodedGroup | None:
    if encoding.group is None:
        return None
    count = len(encoding.errors) + len(encoding.group.trajectories)
    own = [at for at in range(count) if at not in encoding.errors]
    kept = [place for place, at in enumerate(own) if at not in errors]
    return encoding.group.only(kept) if kept else None


def questions_for(chosen: AnyReward, group: EncodedGroup) -> set[Question]:
    """Return what must be asked before any term can be judged."""
    return {
        one
        for part, view in _with_views(chosen, group)
        for one in questions(view, part.config) | class_questions(view, part.config)
    }


def judge_for(chosen: AnyReward, group: EncodedGroup, verdicts: Mapping[Question, Verdict]) -> Judged:
    """Tell right from wrong by the rules of every term; what one cannot judge is left out of all."""
    found = [
        judge(classified(view, part.config, verdicts), part.config, verdicts)
        for part, view in _with_views(chosen, group)
    ]
    if not group.views:
        return found[0]
    errors: dict[int, OutcomeUnavailable] = {}
    for one in found:
        errors = {**one.errors, **errors}
    views = []
    for one in found:
        own = [at for at in range(len(group.trajectories)) if at not in one.errors]
        views.append(one.group.only([place for place, at in enumerate(own) if at not in errors]))
    return Judged(replace(views[chosen.lead], views=tuple(views)), errors)


def _with_views(chosen: AnyReward, group: EncodedGroup) -> Iterator[tuple[AnyReward, EncodedGroup]]:
    return zip(chosen.parts, group.views or (group,), strict=True)
