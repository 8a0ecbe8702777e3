"""OpenRLHF's own multi-turn executor, unchanged, under ours: what its environment says is context."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
from openrlhf.utils.agent import AgentInstanceBase, MultiTurnAgentExecutor
from transformers import AutoTokenizer

from opera_adapters.openrlhf import AgentExecutor
from opera_adapters.turns import of_ranges
from opera_client import AsyncRewardClient, RewardClient
from opera_demo import model_path

PROMPT = "<|im_start|>user\nThe kitchen has 9 coins. How many?<|im_end|>\n<|im_start|>assistant\n"
LABEL = "The kitchen now has 16 coins."
SAID = "<|im_end|>\n<|im_start|>user\nSeven more came.<|im_end|>\n<|im_start|>assistant\n"


class Agent(AgentInstanceBase):  # type: ignore[misc]  # OpenRLHF has no types
    """Says one thing, then ends."""

    def __init__(self) -> None:
        self.steps = 0

    async def step(self, states: dict[str, Any], **_: Any) -> dict[str, Any]:
        self.steps += 1
        done = self.steps == 2
        return {"rewards": torch.tensor(0.0), "environment_feedback": "" if done else SAID, "done": done}


class Engine:
    """In the place of the rollout actor: canned texts, one after the other."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.asked = tokenizer, 0

    async def generate(
        self, prompt_token_ids: list[int], sampling_params: Any, multi_modal_data: Any = None
    ) -> Any:
        self.asked += 1
        text = f"<think>\nThere were {self.asked} coins.\n\n</think>\n\nThe kitchen has {self.asked} coins."
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return SimpleNamespace(
            outputs=[SimpleNamespace(token_ids=ids, text=text, finish_reason="stop", logprobs=None)]
        )


@pytest.mark.parametrize("reward", ["opera", "igpo"])
async def test_what_the_environment_says_is_context(group_service, reward: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    agent, engine = AgentExecutor(rollout=MultiTurnAgentExecutor(Agent), reward=reward), Engine(tokenizer)
    parameters = SimpleNamespace(max_tokens=64, logprobs=None)
    samples = await asyncio.gather(
        *(agent.execute(PROMPT, LABEL, parameters, 512, tokenizer, engine) for _ in range(3))
    )
    said = tokenizer(SAID, add_special_tokens=False)["input_ids"]
    (group,) = group_service.bodies[0]["groups"]
    for sent, sample in zip(group["trajectories"], samples, strict=True):
        (first, end), (start, last) = sample["action_ranges"]
        assert sample["observation_tokens"][end:start] == said
        assert sent["response_token_ids"] == sample["observation_tokens"][first:last]
        assert sent["response_mask"] == [1] * (end - first) + [0] * len(said) + [1] * (last - start)
    with RewardClient(group_service.url) as client:
        told = client.reward([group], reward=reward).rewards[0]
    assert [sample["reward"] for sample in samples] == pytest.approx(told, abs=2**-11)
    assert all(sample["extra_logs"]["opera_failed"] == 0 for sample in samples)


async def test_hints_tell_every_step_of_every_sample(group_service) -> None:
    seen: dict[str, list[dict[str, Any]]] = {}

    def take(request: httpx.Request) -> httpx.Response:
        hint = json.loads(request.content)
        seen.setdefault(hint["member_id"], []).append(hint)
        return httpx.Response(202, json={"accepted": True})

    tokenizer = AutoTokenizer.from_pretrained(model_path())
    agent = AgentExecutor(rollout=MultiTurnAgentExecutor(Agent), reward="igpo", hints=True)
    agent._hinted = AsyncRewardClient("http://there", transport=httpx.MockTransport(take))  # noqa: SLF001
    engine, parameters = Engine(tokenizer), SimpleNamespace(max_tokens=64, logprobs=None)
    samples = await asyncio.gather(
        *(agent.execute(PROMPT, LABEL, parameters, 512, tokenizer, engine) for _ in range(2))
    )
    told: list[tuple[list[int], list[int], list[int]]] = []
    for hints in seen.values():
        first, *_ = parts = sorted(hints, key=lambda hint: hint["seq"])
        assert (first["reference"], first["reward"], first["detail"]) == (LABEL, "igpo", "reward")
        ids = [token for part in parts for token in part["append"]["token_ids"]]
        told.append((first["prompt_token_ids"], ids, [own for part in parts for own in part["append"]["mask"]]))
    for sample in samples:
        found = of_ranges(sample["observation_tokens"], sample["action_ranges"])
        prompt = sample["observation_tokens"][: sample["action_ranges"][0][0]]
        assert (prompt, found["response_token_ids"], found["response_mask"]) in told
        assert sample["reward"] is not None
