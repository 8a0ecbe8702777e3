"""Hints of verl's sessions: when they are refused, and what they are about."""

from __future__ import annotations

import json

import httpx
import pytest

from opera_adapters.verl.hints import hints_of
from opera_adapters.verl.settings import OperaSettings
from opera_client import AsyncRewardClient
from opera_client.errors import InvalidRequest


def test_verl_s_settings_refuse_hints_that_are_of_no_use() -> None:
    for other in ({"score_on": "rollout"}, {"send": "text"}):
        with pytest.raises(InvalidRequest, match="hints"):
            OperaSettings(hints=True, **other)
    assert OperaSettings(hints=True).hints


async def test_a_session_of_verl_says_what_its_reward_will_be_asked_with() -> None:
    sample = {"uid": "u", "global_steps": 3, "reward_model": {"ground_truth": "42"}}
    settings = OperaSettings(hints=True, reward="igpo", run_id="run")
    seen = []

    def take(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(202, json={"accepted": True})

    async with AsyncRewardClient("http://there", transport=httpx.MockTransport(take)) as client:
        one = hints_of(client, settings, sample, 2)
        assert one is not None
        one.take([1, 2], [3])
        await one._stream._task
        assert hints_of(client, settings, {"uid": "u", "global_steps": 3}, 2) is None
    (asked,) = seen
    names = ("run_id", "step", "group_id", "member_id", "reference", "reward", "task", "prompt_token_ids")
    assert [asked[name] for name in names] == ["run", 3, "u", "u/2", "42", "igpo", "open", [1, 2]]
