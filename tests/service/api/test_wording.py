"""What is wrong with a field is said in words of the wire, never in those of a Python library."""

import httpx
import pytest

from .conftest import group


async def error_of(client: httpx.AsyncClient, body: dict) -> dict:
    response = await client.post("/reward", json=body)
    assert response.status_code == 422
    return response.json()["error"]


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"trajectories": [{"id": "a"}]}, "trajectories.0", "give `response`, `response_token_ids` or `turns`"),
        ({"trajectories": [{"turns": []}]}, "trajectories.0.turns", "is empty; give at least one"),
        ({"trajectories": []}, "trajectories", "is empty; give at least one"),
        ({"trajectories": [{"response_token_ids": [-1]}]}, "trajectories.0.response_token_ids.0",
         "must be at least 0"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_group_is_told_in_our_words(
    client: httpx.AsyncClient, change: dict, field: str, said: str
):
    error = await error_of(client, {"groups": [group(**change)]})
    assert (error["field"], error["message"]) == (f"groups.0.{field}", said)


@pytest.mark.parametrize("rewards", [["opera"], [5]])
async def test_a_list_of_names_is_no_list_of_rewards(client: httpx.AsyncClient, rewards: list):
    error = await error_of(client, {"groups": [group()], "rewards": rewards})
    assert (error["field"], error["message"]) == ("rewards.0", "must be a JSON object")


async def test_a_wrong_override_is_told_in_our_words(client: httpx.AsyncClient):
    config = {"segment": {"min_tokens": -1}}
    error = await error_of(client, {"groups": [group()], "config": config})
    assert error["message"] == "must be at least 0"
    both = await error_of(client, {"groups": [group()], "config": {"think": {"open": "<t>"}}})
    assert both["message"] == "give both `open` and `close`, or neither"
