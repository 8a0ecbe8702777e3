"""TRL's own tool calling: TRL's loop and mask, and rewards whose context holds the tool's words.

The tokens of the policy are canned, as no model of this size calls tools; everything behind sampling is TRL's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from datasets import Dataset
from tests.service.pipelines.conftest import tiny_qwen
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from opera_adapters.trl import OperaReward
from opera_client import RewardClient

__all__ = ["tiny_qwen"]
CALL = (
    "<think>\nI should add.\n\n</think>\n\n<tool_call>\n"
    '{"name": "add", "arguments": {"a": 17, "b": %d}}\n</tool_call>'
)
ANSWER = "<think>\nThe tool says so.\n\n</think>\n\nIt is %d."


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


class Canned(GRPOTrainer):
    """Samples what it is told to; notes what TRL makes of it."""

    def _generate_single_turn(self, prompt_ids: Any, *_: Any, **__: Any) -> Any:
        first = not hasattr(self, "masks")
        texts = [(CALL if first else ANSWER) % at for at, _ in enumerate(prompt_ids)]
        end = self._tokenizer.eos_token_id
        self.masks = None
        return [[*self._tokenizer(text)["input_ids"], end] for text in texts], None

    def _tool_call_loop(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._tool_call_loop(*args, **kwargs)
        self.masks, _, self.ids, *_ = found
        return found


class Seen(OperaReward):
    """The reward under test, with a memory."""

    async def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
        self.found = await super().__call__(*args, **kwargs)
        return self.found


@pytest.mark.parametrize("reward", ["opera", "igpo"])
def test_what_a_tool_said_is_context(tiny_qwen: Path, options: Callable[..., Any], reward: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen)
    templates = Path(trl.__file__).parent / "chat_templates"
    tokenizer.chat_template = (templates / "qwen3.jinja").read_text()
    tokenizer.pad_token = tokenizer.eos_token
    torch.manual_seed(0)
    asked = [{"role": "user", "content": "What is 17 + 25?"}]
    with RewardClient.in_process(engine="torch", model=str(tiny_qwen), dtype="float32") as client:
        seen = Seen(client=client, reward=reward)
        trainer = Canned(
            AutoModelForCausalLM.from_pretrained(tiny_qwen, dtype=torch.float32),
            reward_funcs=seen,
            args=GRPOConfig(**options(max_steps=1, max_completion_length=512)),
            train_dataset=Dataset.from_list([{"prompt": asked, "reference": "It is 42."}] * 8),
            processing_class=tokenizer,
            tools=[add],
        )
        trainer.train()
        prompt = trainer._tokenize_prompts([asked])[0][0]
        groups = [
            {
                "prompt_token_ids": prompt,
                "reference": "It is 42.",
                "trajectories": [
                    {"response_token_ids": ids, "response_mask": mask}
                    for ids, mask in zip(trainer.ids[at : at + 4], trainer.masks[at : at + 4], strict=True)
                ],
            }
            for at in (0, 4)
        ]
        told = client.reward(groups, reward=reward)
        blind = client.reward([{**one, "trajectories": _unmasked(one)} for one in groups], reward=reward)
    assert all(0 in mask and mask[-1] == 1 for mask in trainer.masks)
    expected = [one for group in told.rewards for one in group]
    assert None not in expected
    assert seen.found == pytest.approx(expected, abs=2e-5)
    assert seen.found != pytest.approx([one for group in blind.rewards for one in group], abs=2e-5)


def _unmasked(group: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"response_token_ids": one["response_token_ids"]} for one in group["trajectories"]]
