"""The model as a judge: its own chat prompt around a question and one or two answers, up to where it says a label.

Knows the wire and tokenizers; not what a label is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from opera_client.errors import ContextTooLong, InvalidRequest
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


def judging_of(
    asked: Group, group: EncodedGroup, fields: FieldTokenizer, rules: JudgeRules
) -> tuple[Judging, dict[str, ContextTooLong]]:
    """Return the judge's prompts for the members of `group`, which is the encoded `asked`, and who is in none.

    Where a prompt does not fit the model, the member with the longest answer in it is left out, by id.
    Raises InvalidRequest for a label that is no single token or a model without a chat template.
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
    tokens = {name: len(tokenizer.encode_inside(text)) for name, text in texts.items()}
    errors: dict[str, ContextTooLong] = {}

    def prompt(shown: tuple[str, ...]) -> Ids | None:
        content = _content(rules, question, [texts[name] for name in shown])
        chat = tokenizer.chat([{"role": "user", "content": content}])
        ids = fields.checked(np.concatenate([chat, lead]), "prompt")
        try:
            fields.check_length("", question_and_answers=len(chat), lead=len(lead), label=1)
        except ContextTooLong as error:
            errors[max(shown, key=tokens.__getitem__)] = ContextTooLong(error.message)
            return None
        return ids

    while True:  # again without whoever did not fit: who is compared with whom may change
        prompts: dict[tuple[str, ...], Ids] = {}
        for shown in _shown([name for name in texts if name not in errors], rules, tokens):
            fitting = prompt(shown)
            if fitting is None:
                break
            prompts[shown] = fitting
        else:
            return Judging(prompts, labels), errors


def _shown(names: list[str], rules: JudgeRules, tokens: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Return whose answers a prompt shows, the longest prompts first: if these fit, all do."""
    found: list[tuple[str, ...]] = [(name,) for name in names]
    if rules.form == "pairs":
        both = [(names[a], names[b]) for a, b in pairs(len(names), rules.opponents)]
        found = [one for pair in both for one in (pair, pair[::-1])]
    return sorted(found, key=lambda shown: -sum(tokens[name] for name in shown))


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
