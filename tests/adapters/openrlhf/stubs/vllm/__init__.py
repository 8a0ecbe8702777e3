"""In vLLM's place, as far as OpenRLHF's rollout actor uses it: canned answers, one another after the other.

`model` of the engine arguments names a JSON file of texts; its tokenizer is the embedded model's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

__version__ = "0.32.0"


class AsyncEngineArgs(SimpleNamespace):
    pass


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    max_tokens: int | None = None
    min_tokens: int = 1
    skip_special_tokens: bool = False
    logprobs: int | None = None


class AsyncLLMEngine:
    """Answers come out of order, after a moment."""

    def __init__(self, texts: list[str]) -> None:
        from transformers import AutoTokenizer

        from opera_demo import model_path

        self._tokenizer = AutoTokenizer.from_pretrained(model_path())
        self._texts = itertools.cycle(texts)
        self._asked = itertools.count()
        self.output_processor = SimpleNamespace(get_num_unfinished_requests=lambda: 0)
        self.prompts: list[list[int]] = []

    @classmethod
    def from_engine_args(cls, arguments: AsyncEngineArgs) -> AsyncLLMEngine:
        return cls(json.loads(Path(arguments.model).read_text()))

    async def is_sleeping(self) -> bool:
        return False

    async def generate(self, prompt: Any, sampling_params: Any, request_id: str) -> AsyncIterator[Any]:
        text = next(self._texts)
        self.prompts.append(prompt["prompt_token_ids"])
        await asyncio.sleep(0.01 * (next(self._asked) * 7 % 5))
        if text == "!":
            raise RuntimeError("the engine died")
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        logprobs = [{one: SimpleNamespace(logprob=-1.0)} for one in ids] if sampling_params.logprobs else None
        yield SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=ids, text=text, finish_reason="stop", logprobs=logprobs)]
        )
