"""The header Idempotency-Key over HTTP."""

import asyncio

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from opera_client.errors import EngineFailed

from ..app import on, opened
from .conftest import FussyEngine, group

REQUESTS = [
    ("/reward", {"groups": [group()]}),
    ("/rank", {"items": [{"prompt": "2+2=", "candidates": ["4", "5"]}]}),
    ("/expand", {"items": [{"prompt": "2+2=", "max_tokens": 8}]}),
    ("/score", {"items": [{"context": "2+2=", "target": "4"}]}),
    ("/v1/completions", {"prompt": "ab", "max_tokens": 0}),
]


async def ask(client: httpx.AsyncClient, path: str, body: dict, key: str = "k-1", **headers) -> httpx.Response:
    return await client.post(path, json=body, headers={"Idempotency-Key": key, **headers})


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_the_same_key_and_body_get_the_same_bytes(client: httpx.AsyncClient, path: str, body: dict):
    """Also where an answer is drawn at random, as in /expand without a seed."""
    first, again = await ask(client, path, body), await ask(client, path, body)
    assert first.status_code == 200
    assert again.content == first.content
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    for cost in ("X-Queue-Ms", "X-Engine-Ms", "X-Tokens-Computed"):
        assert again.headers[cost] == first.headers[cost]
    metrics = (await client.get("/metrics")).text
    assert "opera_idempotent_replays_total 1.0" in metrics
    assert "opera_idempotent_answers_kept 1.0" in metrics
    other = await ask(client, path, body, "k-2")
    assert "Idempotency-Replayed" not in other.headers


async def test_concurrent_repeats_are_computed_once():
    path, body = "/expand", {"items": [{"prompt": "2+2=", "max_tokens": 8}]}
    async with opened(dummy_token_seconds=1e-3) as client:
        answers = await asyncio.gather(*(ask(client, path, body) for _ in range(6)))
        assert len({answer.content for answer in answers}) == 1
        assert sorted("Idempotency-Replayed" in answer.headers for answer in answers) == [False] + [True] * 5
        assert 'opera_batches_total{outcome="ok"} 1.0' in (await client.get("/metrics")).text


async def test_the_same_key_with_another_body(client: httpx.AsyncClient):
    await ask(client, "/reward", {"groups": [group()]})
    refused = await ask(client, "/reward", {"groups": [group(reference="43")]})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["field"]) == (
        422,
        "idempotency_key_reused",
        "Idempotency-Key",
    )
    assert error["retryable"] is False


async def test_what_is_the_same_request(client: httpx.AsyncClient):
    """Form and time left do not count; the route does, and so does who asks."""
    body = {"groups": [group()]}
    await ask(client, "/reward", body)
    again = await ask(client, "/reward", {**body, "timeout_s": 5})
    assert again.headers["Idempotency-Replayed"] == "true"
    quoted = await ask(client, "/reward", {"detail": "segments", **body}, '"k-1"')
    assert quoted.headers["Idempotency-Replayed"] == "true"
    elsewhere = await ask(client, "/score", {"items": [{"context": "a", "target": "b"}]})
    assert elsewhere.status_code == 200


async def test_keys_of_different_callers_do_not_meet():
    async with opened(api_keys="alice,bob") as client:
        for name, reference in (("alice", "42"), ("bob", "43")):
            answer = await ask(client, "/reward", {"groups": [group(reference=reference)]}, **{"X-API-Key": name})
            assert answer.status_code == 200


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "tab\there"])
async def test_unfit_keys(client: httpx.AsyncClient, key: str):
    refused = await ask(client, "/reward", {"groups": [group()]}, key)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["field"]) == (422, "invalid_request", "Idempotency-Key")


async def test_the_longest_key(client: httpx.AsyncClient):
    assert (await ask(client, "/reward", {"groups": [group()]}, "x" * 255)).status_code == 200


async def test_a_failure_is_computed_again():
    engine = FussyEngine(bad_token=ord("7"), error=EngineFailed("lost the device"))
    async with opened(on(engine)) as client:
        assert (await ask(client, "/reward", {"groups": [group()]})).status_code == 500
        engine.bad_token = 0
        good = await ask(client, "/reward", {"groups": [group()]})
        assert (good.status_code, good.headers.get("Idempotency-Replayed")) == (200, None)


async def test_never_across_weights(client: httpx.AsyncClient):
    first = (await ask(client, "/reward", {"groups": [group()]})).json()
    pushed = save({"salt": np.array(5, dtype=np.int64)})
    await client.put("/policy/weights", content=pushed, headers={"X-Weight-Version": "1"})
    answer = await ask(client, "/reward", {"groups": [group()]})
    assert "Idempotency-Replayed" not in answer.headers
    assert answer.json()["model"]["weight_version"] == "1"
    assert answer.json()["groups"] != first["groups"]


async def test_nothing_is_kept_where_the_settings_say_so():
    async with opened(replay_mb=0) as client:
        for _ in range(2):
            assert "Idempotency-Replayed" not in (await ask(client, "/reward", {"groups": [group()]})).headers
