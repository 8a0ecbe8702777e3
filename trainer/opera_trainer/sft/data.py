"""Traces, or references, become rows of token ids: the prompt as GRPO will template it, what is learnt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opera_client.wire import Message
from opera_trainer.artefacts import Task, Trace
from opera_trainer.models import Tokenizer, chat

IGNORED = -100
OPENING = "<think>\n"


def rows(traces: Iterable[Trace], tokenizer: Tokenizer, max_length: int) -> tuple[list[dict[str, Any]], int]:
    """Return rows of `input_ids` and `labels`, and how many traces were too long.

    A trace over `max_length` tokens is left out, not cut: a thought without its end teaches not to end. Where the
    chat template has opened the thought already, the response begins inside it.
    """
    return _rows(((one.prompt, one.response) for one in traces), tokenizer, max_length)


def reference_rows(
    tasks: Iterable[Task], tokenizer: Tokenizer, max_length: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the same of tasks, with their references as responses. Second references are not read."""
    return _rows(((one.prompt, one.reference) for one in tasks), tokenizer, max_length)


def _rows(
    said: Iterable[tuple[Sequence[Message], str]], tokenizer: Tokenizer, max_length: int
) -> tuple[list[dict[str, Any]], int]:
    found, dropped = [], 0
    for messages, response in said:
        prompt = chat(tokenizer, [message.model_dump() for message in messages])
        if tokenizer.decode(prompt[-8:]).endswith(OPENING):
            response = response.removeprefix(OPENING)
        learnt = [*tokenizer(response, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        if len(prompt) + len(learnt) > max_length:
            dropped += 1
            continue
        found.append({"input_ids": prompt + learnt, "labels": [IGNORED] * len(prompt) + learnt})
    return found, dropped
