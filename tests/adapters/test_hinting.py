"""Hints made of a trainer's calls: what the service is told is the trajectory that the reward will be about.

The clients of verl and OpenRLHF are recorded shapes here; no Ray, no vLLM.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from opera_adapters.hinting import CallHints, HintingClient, HintingEngine, own_hints
from opera_adapters.turns import of_calls
from opera_client import AsyncRewardClient

CALLS = [([1, 2], [3, 4]), ([1, 2, 3, 4, 50, 51], [5]), ([1, 2, 3, 4, 50, 51, 5], [6, 7])]
"""Prompt and written ids of each call; 50 and 51 are the environment's."""


@asynccontextmanager
async def told(**answer: Any) -> AsyncIterator[tuple[AsyncRewardClient, list[dict[str, Any]]]]:
    """A client, and what a service behind it was told."""
    seen: list[dict[str, Any]] = []

    def take(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(202, json={"accepted": True, **answer})

    async with AsyncRewardClient("http://there", transport=httpx.MockTransport(take)) as client:
        yield client, seen


def hints(client: AsyncRewardClient, name: str = "m") -> CallHints:
    return CallHints(client, group_id="g", member_id=name, reference="r", reward="igpo", detail="reward")


async def settled(one: CallHints) -> None:
    stream = one._stream  # noqa: SLF001  nothing else tells
    if stream is not None and stream._task is not None:  # noqa: SLF001
        await stream._task  # noqa: SLF001


def trajectory(seen: list[dict[str, Any]]) -> dict[str, Any]:
    parts = [one["append"] for one in sorted(seen, key=lambda one: one["seq"])]
    return {
        "response_token_ids": [token for part in parts for token in part["token_ids"]],
        "response_mask": [own for part in parts for own in part["mask"]],
    }


async def test_the_service_is_told_the_trajectory_that_the_reward_is_about() -> None:
    async with told() as (client, seen):
        one = hints(client)
        for prompt, written in CALLS:
            one.take(prompt, written)
            await settled(one)
        await one.aclose()
    assert len(seen) == len(CALLS)
    assert trajectory(seen) == of_calls(CALLS)
    assert (seen[0]["prompt_token_ids"], seen[0]["reference"], seen[0]["detail"]) == ([1, 2], "r", "reward")


@pytest.mark.parametrize("changed", [[1, 2, 9, 4, 50], [1, 2, 3], []])
async def test_a_prompt_that_does_not_go_on_ends_the_hints(changed: list[int]) -> None:
    async with told() as (client, seen):
        one = hints(client)
        for prompt, written in (CALLS[0], (changed, [8]), CALLS[1]):
            one.take(prompt, written)
            await settled(one)
    assert trajectory(seen)["response_token_ids"] == [3, 4]


async def test_no_failure_of_a_hint_reaches_the_rollout() -> None:
    async with told() as (client, seen):
        one = CallHints(client, group_id="g", member_id="m", no_such_field=1)
        one.take([1], [2])
        one.take([1, 2], [3])
        assert seen == []
    one = hints(AsyncRewardClient("http://127.0.0.1:9", retries=0))  # nobody listens
    one.take([1], [2])
    await settled(one)
    one.take([1, 2], [3])
    await one.aclose()


class Replicas:
    """verl's `LLMServerClient.generate`, as its source calls it: keywords, an output with `token_ids`."""

    tokenizer = "verl's own"

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any
    ) -> Any:
        await asyncio.sleep(0)
        return SimpleNamespace(token_ids={tuple(p): w for p, w in CALLS}[tuple(prompt_ids)])


async def test_sessions_of_verl_tell_their_own_trajectories() -> None:
    async with told() as (client, seen):
        llm = HintingClient(Replicas())

        async def session(name: str, calls: int) -> None:
            one = hints(client, name)
            own_hints.set(one)
            for prompt, written in CALLS[:calls]:
                output = await llm.generate(request_id=name, prompt_ids=prompt, sampling_params={})
                assert output.token_ids == written
                await settled(one)
            await one.aclose()

        await asyncio.gather(*(asyncio.create_task(session(str(n), n)) for n in (1, 2, 3)))
        await llm.generate(request_id="nobody's", prompt_ids=CALLS[0][0], sampling_params={})
    assert llm.tokenizer == "verl's own"
    for calls in (1, 2, 3):
        own = trajectory([one for one in seen if one["member_id"] == str(calls)])
        expected = of_calls(CALLS[:calls])
        assert own["response_token_ids"] == expected["response_token_ids"]
        assert own["response_mask"] == expected.get("response_mask", [1, 1])
    assert {one["member_id"] for one in seen} == {"1", "2", "3"}


class Actor:
    """OpenRLHF's `llm_engine`, as its executors call it: ids and parameters in their places, vLLM's output."""

    async def generate(
        self, prompt_token_ids: list[int], sampling_params: Any, multi_modal_data: Any = None
    ) -> Any:
        written = {tuple(p): w for p, w in CALLS}[tuple(prompt_token_ids)]
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(written))])


async def test_an_executor_of_openrlhf_tells_every_step() -> None:
    async with told() as (client, seen):
        one = hints(client)
        engine = HintingEngine(Actor(), one)
        for prompt, _ in CALLS:
            await engine.generate(prompt, SimpleNamespace(max_tokens=8))
            await settled(one)
    assert trajectory(seen) == of_calls(CALLS)
