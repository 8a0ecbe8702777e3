"""The model as a judge: its own chat prompt around a question and one or two answers, up to where it says a label.

Knows the wire and tokenizers; not what a label is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from opera_client.errors import InvalidRequest
from opera_client.wire import Group
from opera_service.scoring.tree import Ids
from opera_service.trajectories.encoded import EncodedGroup, Judging
from opera_service.trajectories.encoding_config import ConfigModel
from opera_service.trajectories.field_tokenizer import FieldTokenizer

PAIR = (
    "Below are a question and two responses to it. Say which response is better, A or B: which is more correct, "
    "more complete and more to the point. The order says nothing, and length alone is no merit."
)
SINGLE = (
    "Below are a question and a response to it. Rate the response from 1 (useless or wrong) to 5 (correct, "
    "complete and to the point)."
)


class JudgeRules(ConfigModel):
    """What the judge is asked, and which tokens are its answer."""

    form: Literal["pairs", "single"] = Field("pairs", description="Two answers in both orders, or one at a time.")
    instruction: str = Field(PAIR, min_length=1, description="Stands before question and answers.")
    lead: str = Field("Verdict:\n", description="Fed, not scored, between the judge's turn and its label.")
    labels: tuple[str, ...] = Field(
        ("A", "B"), min_length=2, max_length=11, description="What it may say; each must be one token."
    )
    opponents: int | None = Field(
        None, ge=1, description="Compare each member with this many that follow it, in a ring; null: with all."
    )


def judging_of(asked: Group, group: EncodedGroup, fields: FieldTokenizer, rules: JudgeRules) -> Judging:
    """Return the judge's prompts for the members of `group`, which is the encoded `asked`.

    Raises InvalidRequest for a label that is no single token or a model without a chat template, ContextTooLong
    for answers that do not fit.
    """
    tokenizer = fields.tokenizer
    labels = tuple(tokenizer.encode_inside(label) for label in rules.labels)
    for label, ids in zip(rules.labels, labels, strict=True):
        if len(ids) != 1:
            raise InvalidRequest(
                f"{label!r} is {len(ids)} tokens to this model; take labels of one", field="config.judging.labels"
            )
    lead = tokenizer.encode_inside(rules.lead)
    if tokenizer.tags.source == "template":  # a model that thinks is shown an empty thought
        lead = np.concatenate([tokenizer.encode_inside(tokenizer.tags.opening + tokenizer.tags.bridge), lead])
    question = _question(asked, group)
    texts = {one.id: one.answer.strip() for one in group.trajectories}

    def prompt(answers: Sequence[str]) -> Ids:
        chat = tokenizer.chat([{"role": "user", "content": _content(rules, question, answers)}])
        ids = fields.checked(np.concatenate([chat, lead]), "prompt")
        fields.check_length("prompt", question_and_answers=len(chat), lead=len(lead), label=1)
        return ids

    names = list(texts)
    prompts: dict[tuple[str, ...], Ids] = {}
    if rules.form == "single":
        prompts = {(name,): prompt([texts[name]]) for name in names}
    else:
        for pair in pairs(len(names), rules.opponents):
            for first, second in (pair, pair[::-1]):
                prompts[names[first], names[second]] = prompt([texts[names[first]], texts[names[second]]])
    return Judging(prompts, labels)


def pairs(count: int, opponents: int | None) -> list[tuple[int, int]]:
    """Return who is compared with whom, each pair once: all pairs, or each with those that follow in a ring."""
    reach = count - 1 if opponents is None else min(opponents, count - 1)
    found = {tuple(sorted((at, (at + step) % count))) for at in range(count) for step in range(1, reach + 1)}
    return sorted((first, second) for first, second in found)


def _question(asked: Group, group: EncodedGroup) -> str:
    if isinstance(asked.prompt, list):
        return "\n\n".join(message.content for message in asked.prompt if message.content)
    return group.prompt.strip()


def _content(rules: JudgeRules, question: str, answers: Sequence[str]) -> str:
    names = [f"Response {label}" for label in rules.labels] if len(answers) > 1 else ["Response"]
    parts: Mapping[str, str] = {"Question": question, **dict(zip(names, answers, strict=True))}
    return "\n\n".join([rules.instruction, *(f"{name}:\n{text}" for name, text in parts.items())])
