"""What one request may ask for: each bound exactly reached, one above it, and at 1."""

import json

import httpx
import pytest

from opera_service.server.settings import Settings

from ..app import opened
from .conftest import group

ONE = {"id": "a", "response": "<think>\nWell.\n\n</think>\n\n42"}


def groups(*sizes: int) -> dict:
    """Groups of so many trajectories each."""
    return {
        "groups": [
            group(group_id=f"g{number}", trajectories=[{**ONE, "id": str(at)} for at in range(size)])
            for number, size in enumerate(sizes)
        ]
    }


def ranking(*candidates: int) -> dict:
    return {"items": [{"prompt": "2+2=", "candidates": ["4"] * count} for count in candidates]}


def expansion(*branches: int) -> dict:
    return {"items": [{"prompt": "2+2=", "n": count, "max_tokens": 2} for count in branches]}


def scoring(items: int) -> dict:
    return {"items": [{"context": "2+2=", "target": "4"}] * items}


def member(size: int) -> dict:
    return {
        "group_id": "g", "group_size": size, "member_id": "m", "wait_s": 0.01, "prompt": "2+2=", "reference": "4",
        "response": ONE["response"],
    }  # fmt: skip


def samples(count: int) -> dict:
    return {"query": [f"2+2={n}" for n in range(count)], "prompts": ["2+2="] * count, "labels": ["4"] * count}


REWARD, RANK, EXPAND, SCORE, COMPLETE = "/reward", "/rank", "/expand", "/score", "/v1/completions"
OPENRLHF = "/openrlhf/reward?group_size=1&wait_s=0.01"

CASES = [
    # setting, limit, path, the most that passes, one above, code, field
    ("max_groups", 1, REWARD, groups(2), groups(1, 1), "too_many_groups", "groups"),
    ("max_groups", 3, REWARD, groups(1, 1, 1), groups(1, 1, 1, 1), "too_many_groups", "groups"),
    ("max_trajectories", 1, REWARD, groups(1), groups(2), "too_many_trajectories", "groups"),
    ("max_trajectories", 4, REWARD, groups(1, 3), groups(2, 3), "too_many_trajectories", "groups"),
    ("max_trajectories", 1, "/reward/member", member(1), member(2), "too_many_trajectories", "group_size"),
    ("max_trajectories", 1, OPENRLHF, samples(1), samples(2), "too_many_trajectories", "query"),
    ("max_items", 1, RANK, ranking(2), ranking(2, 2), "too_many_items", "items"),
    ("max_items", 1, EXPAND, expansion(2), expansion(2, 2), "too_many_items", "items"),
    ("max_items", 1, SCORE, scoring(1), scoring(2), "too_many_items", "items"),
    ("max_items", 2, SCORE, scoring(2), scoring(3), "too_many_items", "items"),
    ("max_items", 1, COMPLETE, {"prompt": "ab", "max_tokens": 0}, {"prompt": ["ab", "c"], "max_tokens": 0},
     "too_many_items", "prompt"),
    ("max_branches", 1, RANK, ranking(1, 1), ranking(1, 2), "too_many_branches", "items.1.candidates"),
    ("max_branches", 1, EXPAND, expansion(1, 1), expansion(1, 2), "too_many_branches", "items.1.n"),
    ("max_request_tokens", 1, SCORE, {"items": [{"context": "a", "target": "b"}]},
     {"items": [{"context": "ab", "target": "c"}]}, "too_many_tokens", "items"),
    ("max_queue_tokens", 1, SCORE, {"items": [{"context": "a", "target": "b"}]},
     {"items": [{"context": "ab", "target": "c"}]}, "too_many_tokens", "items"),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "limit", "path", "fits", "over", "code", "field"), CASES)
async def test_each_limit(setting: str, limit: int, path: str, fits: dict, over: dict, code: str, field: str):
    async with opened(**{setting: limit}) as client:
        good = await client.post(path, json=fits)
        assert good.status_code == 200, good.text
        refused = await client.post(path, json=over)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["field"]) == (413, code, field)
        assert error["retryable"] is False
        assert "Retry-After" not in refused.headers
        assert f"--{setting.replace('_', '-')}" in error["message"], "it says which setting"
        assert f" {limit} " in error["message"], "it says how much is allowed"
        assert "send " in error["message"], "it says what to do"
        metrics = (await client.get("/metrics")).text
        assert f'opera_rejected_total{{reason="{code}"}} 1.0' in metrics
        assert (await client.post(path, json=fits)).status_code == 200, "a refusal leaves nothing behind"


async def test_tokens_are_counted_as_they_are_computed(client: httpx.AsyncClient):
    body = groups(2, 2)
    distinct = (await client.post(REWARD, json=body)).json()["usage"]["tokens_computed"]
    for setting in ("max_request_tokens", "max_queue_tokens"):
        async with opened(**{setting: distinct}) as exact:
            assert (await exact.post(REWARD, json=body)).status_code == 200
        async with opened(**{setting: distinct - 1}) as tight:
            refused = await tight.post(REWARD, json=body)
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["retryable"]) == (413, "too_many_tokens", False)
            assert str(distinct) in error["message"]


async def test_the_body_in_bytes():
    body = json.dumps(groups(1)).encode()
    for spare, status in ((0, 200), (-1, 413)):
        async with opened(max_body_mb=(len(body) + spare) / 2**20) as client:
            answer = await client.post(REWARD, content=body)
            assert answer.status_code == status, answer.text
            if status == 413:
                assert answer.json()["error"]["code"] == "body_too_large"
                assert "--max-body-mb" in answer.json()["error"]["message"]
                assert 'opera_rejected_total{reason="body_too_large"} 1.0' in (await client.get("/metrics")).text


async def test_a_body_of_one_byte():
    async with opened(max_body_mb=1 / 2**20) as client:
        assert (await client.post(REWARD, content=b"1")).status_code == 422
        assert (await client.post(REWARD, content=b"12")).status_code == 413


def test_limits_below_one_are_refused_at_the_start():
    for name in (
        "max_groups", "max_trajectories", "max_items", "max_branches", "max_request_tokens", "max_queue_requests",
        "max_queue_tokens",
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            Settings(engine="dummy", **{name: 0})
