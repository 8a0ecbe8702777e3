"""References as datasets hold them, and completions that come as messages: the same in every adapter."""

import numpy as np
import pytest

from opera_adapters._grouping import Row
from opera_adapters._references import reference
from opera_adapters._texts import USUAL, has_thought, tags_of, text_of
from opera_adapters.groups import GroupReward
from opera_adapters.reward import OperaReward
from opera_client import AsyncRewardClient
from opera_client.errors import InvalidRequest

THOUGHT = "<think>\nWait, it is twelve after all.\n</think>\n\ntwelve"


def test_the_place_and_the_setting_are_named():
    found = {"field": "reward.opera.reference", "place": "reward_model.ground_truth"}
    assert reference(np.array(["a", "b"]), **found) == ["a", "b"]
    assert reference(12, **found) == "12"
    for wrong in ({"target": ["a"]}, float("nan"), b"a", "", " ", ["a", ""], None):
        with pytest.raises(InvalidRequest, match=r"reward_model\.ground_truth") as raised:
            reference(wrong, **found)
        assert raised.value.field == "reward.opera.reference"


def test_rows_ask_the_same_whatever_the_list_is_made_of():
    rows = [Row({"prompt": "Q", "reference": given}, {"response": "a"}).checked()
            for given in (["a", "b"], ("a", "b"), np.array(["a", "b"]))]  # fmt: skip
    assert all(row.problem is None for row in rows)
    assert len({row.key for row in rows}) == 1


@pytest.mark.parametrize("wrong", [{"target": ["a"]}, float("nan"), b"a", "", None, []])
async def test_a_batch_without_any_reference_ends_training_at_once(wrong):
    async with AsyncRewardClient.in_process(engine="dummy") as client:
        with pytest.raises(InvalidRequest, match="reference"):
            await OperaReward(client=client)(["Q", "Q"], [THOUGHT, "b"], reference=[wrong, wrong])
        with pytest.raises(InvalidRequest, match="reference"):
            await GroupReward(client=client)({"prompt": "Q", "reference": wrong}, [{"response": THOUGHT}])


async def test_one_row_without_a_reference_has_no_reward_and_spoils_no_other():
    async with AsyncRewardClient.in_process(engine="dummy") as client:
        rewards = await OperaReward(client=client)(
            ["Q", "P"], [THOUGHT, THOUGHT], reference=["twelve", float("nan")]
        )
    assert rewards[0] is not None
    assert rewards[1] is None


async def test_several_references_are_scored():
    async with AsyncRewardClient.in_process(engine="dummy") as client:
        rewards = await OperaReward(client=client)(["Q"], [THOUGHT], reference=[["twelve", "12"]])
    assert rewards[0] is not None


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"role": "assistant", "content": "yes"}], "yes"),
        ([{"role": "assistant", "content": "yes", "reasoning_content": "so"}], "<think>\nso\n</think>\n\nyes"),
        ([{"role": "assistant", "content": "yes", "thinking": "so\n"}], "<think>\nso\n</think>\n\nyes"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "yes"}]}], "yes"),
        ([{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], ""),
        ([{"role": "assistant", "content": "yes", "reasoning_content": ""}], "yes"),
    ],
)
def test_a_completion_of_messages_is_the_text_that_was_written(messages, text):
    assert text_of(messages, USUAL) == text
    assert has_thought(messages) == ("think" in text)


def test_a_thought_stands_in_the_tags_of_the_configuration():
    message = {"role": "assistant", "content": "yes", "reasoning": "so"}
    tags = tags_of({"think": {"open": "[T]", "close": "[/T]"}})
    assert text_of([message], tags) == "[T]\nso\n[/T]\n\nyes"


def test_content_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="image_url"):
        text_of([{"role": "assistant", "content": [{"type": "image_url"}]}], USUAL)
