"""Tasks become the columns that GRPOTrainer and the reward read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opera_trainer.artefacts import Task
from opera_trainer.models import Tokenizer, chat


def rows(tasks: Iterable[Task], tokenizer: Tokenizer, max_prompt_length: int) -> tuple[list[dict[str, Any]], int]:
    """Return rows of `prompt`, `reference`, `kind` and `task` (JSON), and how many prompts were too long."""
    found, dropped = [], 0
    for task in tasks:
        prompt = [message.model_dump() for message in task.prompt]
        if len(chat(tokenizer, prompt)) > max_prompt_length:
            dropped += 1
            continue
        # Every column reaches every reward function: the held-out reference must not be among them.
        seen = task.model_dump_json(exclude={"second_reference"})
        found.append({"prompt": prompt, "reference": task.reference, "kind": task.kind, "task": seen})
    return found, dropped
