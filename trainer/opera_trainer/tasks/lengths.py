"""Lengths of tasks in the tokens of the run's model. Knows a tokenizer, no files."""

from __future__ import annotations

from collections.abc import Callable

from opera_trainer.artefacts import Task

Length = Callable[[Task], tuple[int, int]]
"""Tokens of the prompt, chat template and all, and of the reference."""


def lengths_of(model: str) -> Length:
    """Return the measure of a model; `demo` is the embedded one."""
    from transformers import AutoTokenizer

    from opera_trainer.models import base

    tokenizer = AutoTokenizer.from_pretrained(base(model))

    def tokens(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    def length(task: Task) -> tuple[int, int]:
        messages = [message.model_dump() for message in task.prompt]
        if tokenizer.chat_template is None:
            return tokens("\n\n".join(message["content"] for message in messages)), tokens(task.reference)
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tokens(str(prompt)), tokens(task.reference)

    return length
