"""POST /expand on a real, if tiny, model: seeds, ranking, stop words, guiding words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from opera_service.server.app import create_app
from opera_service.server.settings import Settings

ITEM = {"prompt": "What is 17 + 25?\n", "prefix": "<think>\nIt is", "n": 6, "max_tokens": 24, "seed": 3}


@pytest.fixture
async def client(tiny_qwen: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(engine="torch", model=str(tiny_qwen), dtype="float32"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http,
    ):
        yield http


async def ask(client: httpx.AsyncClient, path: str, **item) -> dict:
    response = await client.post(path, json={"items": [item]})
    assert response.status_code == 200, response.text
    return response.json()["items"][0]


async def test_seeds_and_the_ranking_of_rank(client: httpx.AsyncClient, oracle, hf_tokenizer):
    first, again = await ask(client, "/expand", **ITEM), await ask(client, "/expand", **ITEM)
    assert first == again
    candidates = [{"token_ids": one["token_ids"]} for one in first["candidates"]]
    rank = await ask(client, "/rank", prompt=ITEM["prompt"], prefix=ITEM["prefix"], candidates=candidates)
    assert first["ranking"] == rank["ranking"]
    for one, other in zip(first["candidates"], rank["candidates"], strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    context = [token for text in (ITEM["prompt"], ITEM["prefix"]) for token in hf_tokenizer.encode(text)]
    best = first["candidates"][first["ranking"][0]]
    assert best["sum_logprob"] == pytest.approx(sum(oracle(context, best["token_ids"])), abs=1e-4)


async def test_temperature_zero_takes_the_most_likely_token(client: httpx.AsyncClient, rows, hf_tokenizer):
    item = await ask(client, "/expand", **{**ITEM, "temperature": 0, "n": 2, "max_tokens": 6})
    ids = [token for text in (ITEM["prompt"], ITEM["prefix"]) for token in hf_tokenizer.encode(text)]
    expected = []
    for _ in range(6):
        expected.append(int(rows(ids + expected)[-1].argmax()))
    assert [one["token_ids"] for one in item["candidates"]] == [expected, expected]


async def test_a_stop_text_cuts_what_the_same_seed_writes(client: httpx.AsyncClient, hf_tokenizer):
    whole = await ask(client, "/expand", **ITEM)
    longest = max(whole["candidates"], key=lambda one: len(one["token_ids"]))
    stop = hf_tokenizer.decode(longest["token_ids"][9:11])
    cut = await ask(client, "/expand", **ITEM, stop=[stop])
    place = whole["candidates"].index(longest)
    assert cut["candidates"][place]["stopped_by"] == stop
    for one, all_of_it in zip(cut["candidates"], whole["candidates"], strict=True):
        assert all_of_it["token_ids"][: len(one["token_ids"])] == one["token_ids"]
        assert stop not in one["text"]
    assert len(cut["candidates"][place]["token_ids"]) <= 9


async def test_guiding_words_are_tokenised_alone(client: httpx.AsyncClient, hf_tokenizer):
    words = [" Wait", "But"]
    item = await ask(client, "/expand", **ITEM, guiding_words=words)
    for place, one in enumerate(item["candidates"]):
        guide = hf_tokenizer.encode(words[place % 2])
        assert one["token_ids"][: len(guide)] == guide
        assert one["text"].startswith(words[place % 2])


async def test_ids_in_place_of_texts(client: httpx.AsyncClient, hf_tokenizer):
    by_text = await ask(client, "/expand", **ITEM)
    ids = {f"{name}_token_ids": hf_tokenizer.encode(ITEM[name]) for name in ("prompt", "prefix")}
    rest = {name: value for name, value in ITEM.items() if name not in ("prompt", "prefix")}
    assert await ask(client, "/expand", **rest, **ids) == by_text


async def test_sampling_that_nobody_waits_for_frees_the_device(client: httpx.AsyncClient):
    """The device thread cannot be cancelled; it ends at the next token."""
    asked = {"items": [{**ITEM, "max_tokens": 1900, "n": 64}], "timeout_s": 0.3}
    given_up = await client.post("/expand", json=asked)
    assert (given_up.status_code, given_up.json()["error"]["code"]) == (504, "deadline_exceeded")
    whole = await client.post("/expand", json={"items": [{**ITEM, "max_tokens": 4}], "timeout_s": 30})
    assert whole.status_code == 200, whole.text
