"""POST /expand on the dummy engine: what is sampled, where it stops, what it is worth, what is refused."""

from __future__ import annotations

import asyncio
import dataclasses

import httpx
import pytest

from opera_client.errors import EngineOutOfMemory
from opera_service.engines.dummy import DummyEngine
from opera_service.trajectories.byte_tokenizer import END_ID, ByteTokenizer

from ..app import on
from .table import ids_of

PROMPT, PREFIX = "Q: 2+2?\n", "<think>four, "
ITEM = {"id": "x", "prompt": PROMPT, "prefix": PREFIX, "max_tokens": 12, "seed": 1}


class Scripted(DummyEngine):
    """The dummy engine, except that it writes what it is told: continuation i of any request gets script i."""

    def __init__(self, *scripts: str, error_at: int | None = None) -> None:
        super().__init__(ByteTokenizer.vocab_size)
        self.scripts, self.error_at, self.asked = scripts, error_at, []

    async def generate(self, requests):
        answers = await super().generate(requests)
        self.asked += requests
        if any(self.error_at in request.prompt_ids for request in requests):
            raise EngineOutOfMemory("too much")
        return [
            [self._write(request, one, script) for one, script in zip(answer, self.scripts, strict=False)]
            for request, answer in zip(requests, answers, strict=True)
        ]

    @staticmethod
    def _write(request, one, script):
        found = []
        for token in ids_of(script)[: request.max_tokens]:
            found.append(token)
            if token in request.stop_ids:
                return dataclasses.replace(one, token_ids=ByteTokenizer().encode(script), finish_reason="stop")
            if request.enough(found):
                break
        reason = "length" if len(found) == request.max_tokens else "enough"
        return dataclasses.replace(
            one, token_ids=ByteTokenizer().encode(script)[: len(found)], finish_reason=reason
        )


async def expanded(client: httpx.AsyncClient, **changes) -> dict:
    response = await client.post("/expand", json={"items": [{**ITEM, **changes}]})
    assert response.status_code == 200, response.text
    return response.json()["items"][0]


async def ranked(client: httpx.AsyncClient, item: dict, **changes) -> dict:
    candidates = [{"token_ids": one["token_ids"]} for one in item["candidates"]]
    body = {"prompt": PROMPT, "prefix": PREFIX, "candidates": candidates, **changes}
    return (await client.post("/rank", json={"items": [body]})).json()["items"][0]


@pytest.mark.parametrize("by", ["branch", "branch_sum", "sequence", "reference"])
async def test_the_order_is_what_rank_says_about_the_answered_ids(client: httpx.AsyncClient, by: str):
    reference = {"reference": "it is 4"} if by == "reference" else {}
    item = await expanded(client, n=5, by=by, guiding_words=["Wait", "But"], **reference)
    asked = await ranked(client, item, by=by, **reference)
    assert item["ranking"] == asked["ranking"]
    for got, expected in zip(item["candidates"], asked["candidates"], strict=True):
        assert {name: got[name] for name in expected} == expected


async def test_a_seed_repeats_and_branches_differ(client: httpx.AsyncClient):
    once, again = await expanded(client), await expanded(client)
    assert once == again
    assert len({tuple(one["token_ids"]) for one in once["candidates"]}) == 4
    assert (await expanded(client, seed=2))["candidates"] != once["candidates"]
    more = await expanded(client, n=6)
    assert [one["token_ids"] for one in more["candidates"]][:4] == [one["token_ids"] for one in once["candidates"]]


async def test_without_a_seed_nothing_repeats(client: httpx.AsyncClient):
    once, again = await expanded(client, seed=None), await expanded(client, seed=None)
    assert [one["token_ids"] for one in once["candidates"]] != [one["token_ids"] for one in again["candidates"]]


async def test_guiding_words_take_turns_and_belong_to_the_branch(client: httpx.AsyncClient):
    words = ["at", "bat"]  # the dummy model sees the last token only
    item = await expanded(client, n=2, guiding_words=words)
    first, second = (one["text"].removeprefix(word) for one, word in zip(item["candidates"], words, strict=True))
    assert first != second, "equal seeds, but every branch has random numbers of its own"
    item = await expanded(client, n=5, guiding_words=["Wait", "", "<think>"])
    assert [one["guiding_word"] for one in item["candidates"]] == ["Wait", "", "<think>", "Wait", ""]
    for one in item["candidates"]:
        assert one["text"].startswith(one["guiding_word"])
        guide = ids_of(one["guiding_word"])
        assert one["token_ids"][: len(guide)] == guide
        assert len(one["token_ids"]) <= len(guide) + 12


async def test_a_branch_ends_before_a_whole_stop_word(open_app):
    engine = Scripted("a Button But no", "But", "so\n\nyes", "all of it, all")
    async with open_app(on(engine)) as client:
        item = await expanded(client, stop=["But", "\n\n"], max_tokens=15)
    got = [(one["text"], one["finish_reason"], one["stopped_by"]) for one in item["candidates"]]
    assert got == [
        ("a Button ", "stop", "But"),
        ("But", "length", None),
        ("so", "stop", "\n\n"),
        ("all of it, all", "length", None),
    ]
    assert [one["token_ids"] for one in item["candidates"]] == [ids_of(text) for text, _, _ in got]


async def test_sampling_ends_with_the_stop_word(open_app):
    async with open_app(on(Scripted("so But " + "x" * 80, "But<|end|>"))) as client:
        body = {"items": [{**ITEM, "n": 2, "stop": ["But"], "max_tokens": 100}]}
        answer = (await client.post("/expand", json=body)).json()
    assert [one["text"] for one in answer["items"][0]["candidates"]] == ["so ", ""]
    assert [one["stopped_by"] for one in answer["items"][0]["candidates"]] == ["But", "But"]
    assert answer["usage"]["generated_tokens"] == len("so But ") + len("But") + 1


async def test_a_branch_that_ends_at_once_stands_last(open_app):
    engine = Scripted("\n\nno", "good", "<|end|>", "bad")
    async with open_app(on(engine)) as client:
        item = await expanded(client, stop=["\n\n"])
    assert item["ranking"][2:] == [0, 2]
    for place, by in ((0, "\n\n"), (2, "<|end|>")):
        one = item["candidates"][place]
        assert (one["status"], one["text"], one["tokens"], one["score"]) == ("ok", "", 0, None)
        assert one["stopped_by"] == by
        assert one["mean_logprob"] is one["perplexity"] is one["error"] is None
    assert [item["candidates"][place]["rank"] for place in item["ranking"]] == [0, 1, 2, 3]


async def test_only_empty_branches_are_a_good_answer(open_app):
    async with open_app(on(Scripted("<|end|>", "<|end|>"))) as client:
        response = await client.post("/expand", json={"items": [{**ITEM, "n": 2}]})
    (item,) = response.json()["items"]
    assert (item["status"], item["ranking"]) == ("ok", [0, 1])
    assert response.json()["usage"]["scored_tokens"] == 0
    assert response.json()["usage"]["generated_tokens"] == 2


async def test_after_a_guiding_word_an_end_is_not_empty(open_app):
    async with open_app(on(Scripted("<|end|>", "ok"))) as client:
        item = await expanded(client, n=2, guiding_words=["Wait"])
    assert [one["text"] for one in item["candidates"]] == ["Wait", "Waitok"]
    assert item["candidates"][0]["tokens"] == 4


async def test_the_model_s_end_token_is_asked_for_and_cut(open_app):
    engine = Scripted("yes<|end|>")
    async with open_app(on(engine)) as client:
        item = await expanded(client, n=1)
    assert engine.asked[0].stop_ids == (END_ID,)
    (one,) = item["candidates"]
    assert (one["text"], one["finish_reason"], one["stopped_by"]) == ("yes", "stop", "<|end|>")


async def test_a_bad_item_fails_alone(client: httpx.AsyncClient):
    items = [
        ITEM,
        {**ITEM, "id": "empty", "prompt": "", "prefix": None},
        {**ITEM, "id": "long", "max_tokens": 40_000},
        {**ITEM, "id": "id", "prefix": None, "prefix_token_ids": [400]},
        {**ITEM, "id": "reference", "by": "reference", "reference": ""},
    ]
    response = await client.post("/expand", json={"items": items})
    good, *bad = response.json()["items"]
    assert good == await expanded(client)
    assert [(one["error"]["code"], one["error"]["field"]) for one in bad] == [
        ("empty_context", "items.1.prompt"),
        ("context_too_long", "items.2.max_tokens"),
        ("token_out_of_vocabulary", "items.3.prefix_token_ids"),
        ("empty_reference", "items.4.reference"),
    ]
    assert all((one["status"], one["candidates"], one["ranking"]) == ("error", [], []) for one in bad)


async def test_an_item_that_the_engine_cannot_sample_fails_alone(open_app):
    engine = Scripted("good", "bad", error_at=ord("#"))
    async with open_app(on(engine)) as client:
        items = [{**ITEM, "n": 2}, {**ITEM, "n": 2, "prompt": "#"}]
        good, bad = (await client.post("/expand", json={"items": items})).json()["items"]
        alone = await client.post("/expand", json={"items": items[1:]})
    assert good["status"] == "ok"
    assert (bad["status"], bad["error"]["code"], bad["error"]["retryable"]) == (
        "error",
        "engine_out_of_memory",
        True,
    )
    assert alone.status_code == 503


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"n": 0}, "items.0.n"),
        ({"n": 257}, "items.0.n"),
        ({"max_tokens": 0}, "items.0.max_tokens"),
        ({"temperature": -0.1}, "items.0.temperature"),
        ({"top_p": 0}, "items.0.top_p"),
        ({"top_k": -1}, "items.0.top_k"),
        ({"seed": -1}, "items.0.seed"),
        ({"stop": [""]}, "items.0.stop.0"),
        ({"stop": "But"}, "items.0.stop"),
        ({"by": "reference"}, "items.0"),
        ({"candidates": []}, "items.0.candidates"),
        ({"n": 256, "max_tokens": 20_000}, "items"),
    ],
)
async def test_what_is_out_of_range_is_refused(client: httpx.AsyncClient, changes: dict, field: str):
    response = await client.post("/expand", json={"items": [{**ITEM, **changes}]})
    assert response.status_code == 422
    assert response.json()["error"]["field"] == field


async def test_a_deadline_ends_sampling(open_app):
    async with open_app(dummy_token_seconds=0.05) as client:
        body = {"items": [{**ITEM, "max_tokens": 100}], "timeout_s": 0.1}
        response = await asyncio.wait_for(client.post("/expand", json=body), 2)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_exceeded"


async def test_weights_that_changed_between_sampling_and_ranking_are_refused(open_app):
    class Swapped(DummyEngine):
        async def generate(self, requests):
            answers = await super().generate(requests)
            return [[dataclasses.replace(one, weight_version="older") for one in answer] for answer in answers]

    async with open_app(on(Swapped(ByteTokenizer.vocab_size))) as client:
        response = await client.post("/expand", json={"items": [ITEM]})
        pinned = await client.post("/expand", json={"items": [ITEM], "weight_version": "0"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert (pinned.status_code, pinned.json()["error"]["code"]) == (409, "weight_version_mismatch")


async def test_costs(client: httpx.AsyncClient):
    response = await client.post("/expand", json={"items": [{**ITEM, "n": 3}]})
    body = response.json()
    lengths = [len(one["token_ids"]) for one in body["items"][0]["candidates"]]
    assert body["usage"]["scored_tokens"] == sum(lengths)
    assert body["usage"]["generated_tokens"] >= sum(lengths)
    assert response.headers["X-Tokens-Computed"] == str(body["usage"]["tokens_computed"])
    assert body["timing_ms"]["generate"] > 0
