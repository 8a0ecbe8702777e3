"""What is done with a batch before anybody is asked."""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_adapters.reward import OperaReward, _templated
from opera_client import AsyncRewardClient


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
