"""What is done with a batch before anybody is asked."""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_adapters.reward import OperaReward, _templated
from opera_client import AsyncRewardClient, Group, RewardClient
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.trajectories.think_tags import ThinkTags


@given(st.lists(st.sampled_from(["a", "b", "longer"]), min_size=1, max_size=9))
def test_every_prompt_has_its_own_ids_and_equal_neighbours_are_tokenised_once(prompts: list[str]) -> None:
    asked: list[str] = []

    def tokenizer(text: list[str]) -> dict[str, list[list[int]]]:
        asked.extend(text)
        return {"input_ids": [list(one.encode()) for one in text]}

    found = _templated(SimpleNamespace(processing_class=tokenizer), prompts)
    assert found == [list(prompt.encode()) for prompt in prompts]
    assert asked == [prompt for prompt, _ in groupby(prompts)]


PROMPTS = ["Which number?"] * 3
ANSWERS = [f"<think>so\n\n</think>{one}" for one in ("7", "8", "8")]


async def test_a_reward_that_reads_no_reference_needs_no_column() -> None:
    async with AsyncRewardClient.in_process(engine="dummy") as client:
        reward = OperaReward(client=client, reward="empo", reference_column=None, send="text")
        assert await reward(PROMPTS, ANSWERS) == pytest.approx([1 / 3, 2 / 3, 2 / 3])


async def test_what_trl_has_no_place_for_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    config = {"rewards": [{"name": "empo"}, {"name": "high_entropy"}]}
    async with AsyncRewardClient.in_process(engine="dummy") as client:
        reward = OperaReward(client=client, reward="sum", config=config, reference_column=None, send="text")
        for _ in range(2):
            assert await reward(PROMPTS, ANSWERS) == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert [one.message for one in caplog.records if "shapes tokens" in one.message] == [
        "the reward shapes tokens, which this trainer cannot take: only its number is used"
    ]


THOUGHTS = [[{"role": "assistant", "reasoning_content": f"so {one}", "content": one}] for one in ("7", "8", "8")]
REFERENCES = ["8"] * 3


def in_tags(opening: str, closing: str) -> list[str]:
    return [f"{opening}\nso {one}\n{closing}\n\n{one}" for one in ("7", "8", "8")]


SUM = {"rewards": [{"name": "rent"}, {"name": "opera", "config": {"think": {"open": "[T]", "close": "[/T]"}}}]}


@pytest.mark.parametrize(
    ("asked", "opening", "closing"),
    [
        ({}, "[THINK]", "[/THINK]"),
        ({"config": {"think": {"open": "<r>", "close": "</r>"}}}, "<r>", "</r>"),
        ({"config": {"think": {"mode": "optional"}}}, "[THINK]", "[/THINK]"),
        ({"preset": "paper"}, "<think>", "</think>"),
        ({"reward": "sum", "config": SUM}, "[T]", "[/T]"),
    ],
)
@pytest.mark.parametrize("kind", [AsyncRewardClient, RewardClient])
async def test_a_thought_of_its_own_field_stands_in_the_tags_that_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, kind: type, asked: dict, opening: str, closing: str
) -> None:
    monkeypatch.setattr(ByteTokenizer, "tags", ThinkTags.of("[THINK]", "[/THINK]", "template"))
    client = kind.in_process(engine="dummy")
    sent: list[str] = []
    ask = client.reward

    def noting(groups: list[Group], **fields: Any) -> Any:
        sent.extend(str(one.response) for group in groups for one in group.trajectories)
        return ask(groups, **fields)

    monkeypatch.setattr(client, "reward", noting)
    try:
        found = await OperaReward(client=client, send="text", **asked)(PROMPTS, THOUGHTS, reference=REFERENCES)
        assert None not in found
        assert sent == in_tags(opening, closing)
    finally:
        await client.aclose() if kind is AsyncRewardClient else client.close()


async def test_a_service_that_names_no_tags_has_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncRewardClient.in_process(engine="dummy") as client:
        known = await client.model()

        async def model() -> object:
            return known.model_copy(update={"think_open": "", "think_close": ""})

        monkeypatch.setattr(client, "model", model)
        reward = OperaReward(client=client, send="text")
        found = await reward(PROMPTS, THOUGHTS, reference=REFERENCES)
        usual = await reward(PROMPTS, in_tags("<think>", "</think>"), reference=REFERENCES)
        assert found == pytest.approx(usual)
