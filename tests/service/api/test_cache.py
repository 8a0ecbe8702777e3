"""Repeats over HTTP: the same numbers without the engine, and never those of other weights."""

import asyncio
from collections.abc import Sequence

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from opera_service.engines.dummy import DummyEngine
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TokenTree
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

from ..app import on, opened
from ..until import until
from .conftest import group

REQUESTS = [
    ("/reward", {"groups": [group()], "detail": "tokens"}),
    ("/rank", {"items": [{"prompt": "2+2=", "candidates": ["4", "5"]}]}),
    ("/score", {"items": [{"context": "2+2=", "target": "4", "entropy": True}], "detail": "tokens"}),
    ("/expand", {"items": [{"prompt": "2+2=", "max_tokens": 3, "seed": 1}]}),
]


class Counting(DummyEngine):
    """The dummy engine, whose numbers are never the same twice."""

    def __init__(self) -> None:
        super().__init__(ByteTokenizer.vocab_size)
        self.trees = 0

    async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
        self.trees += len(trees)
        answers = await super().score(trees)
        for answer in answers:
            answer.logprobs[:] *= 1 + 1e-6 * self.trees
        return answers


def numbers(answer: dict) -> dict:
    return {name: value for name, value in answer.items() if name not in ("usage", "timing_ms")}


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_a_repeat_is_bit_equal_and_costs_nothing(path: str, body: dict):
    engine = Counting()
    async with opened(on(engine)) as client:
        first = await client.post(path, json=body)
        asked = engine.trees
        again = await client.post(path, json=body)
        assert engine.trees == asked
        assert numbers(again.json()) == numbers(first.json())
        before, after = first.json()["usage"], again.json()["usage"]
        assert (before["cache_hits"], before["tokens_cached"]) == (0, 0)
        assert (after["cache_hits"], after["tokens_computed"]) == (1, 0)
        assert after["tokens_cached"] == before["tokens_computed"] > 0
        assert again.headers["X-Tokens-Computed"] == "0"
        assert (after["tokens_naive"], after["scored_tokens"]) == (before["tokens_naive"], before["scored_tokens"])
        metrics = (await client.get("/metrics")).text
        assert "opera_cache_hits_total 1.0" in metrics
        assert "opera_cache_misses_total 1.0" in metrics
        assert "opera_cache_entries 1.0" in metrics


async def test_only_what_is_new_is_computed():
    engine = Counting()
    old, new = group(group_id="old"), group(group_id="new", reference="43")
    async with opened(on(engine)) as client:
        first = (await client.post("/reward", json={"groups": [old]})).json()
        both = (await client.post("/reward", json={"groups": [new, old]})).json()
        assert engine.trees == 2
        assert both["groups"][1] == first["groups"][0]
        assert both["usage"]["cache_hits"] == 1


async def test_what_is_asked_to_be_shown_does_not_matter():
    """The key is what is computed: equal contexts, however much of them is returned."""
    engine = Counting()
    async with opened(on(engine)) as client:
        for detail in ("segments", "tokens", "segments"):
            answer = await client.post("/reward", json={"groups": [group()], "detail": detail})
            assert answer.status_code == 200
        assert engine.trees == 1


async def test_switched_off():
    async with opened(cache_mb=0) as client:
        for _ in range(2):
            usage = (await client.post("/reward", json={"groups": [group()]})).json()["usage"]
            assert usage["tokens_computed"] > 0
            assert usage["cache_hits"] == 0


async def test_errors_are_not_kept():
    class Failing(Counting):
        async def score(self, trees: Sequence[TokenTree]) -> list[TreeScores]:
            answers = await super().score(trees)
            if self.trees < 3:
                answers[0].logprobs[0] = np.nan
            return answers

    async with opened(on(Failing())) as client:
        codes = [
            (await client.post("/reward", json={"groups": [group()], "preset": "hardened-1"})).status_code
            for _ in range(4)
        ]
        assert codes == [500, 500, 200, 200]


def salted(salt: int) -> bytes:
    """The dummy engine's weights."""
    return save({"salt": np.array(salt, dtype=np.int64)})


async def load(client: httpx.AsyncClient, weights: bytes, version: str) -> None:
    answer = await client.put("/policy/weights", content=weights, headers={"X-Weight-Version": version})
    assert answer.status_code == 200, answer.text


async def test_other_weights_are_never_answered_from_the_cache():
    body = {"groups": [group()]}
    async with opened() as client:
        by_version = {"0": (await client.post("/reward", json=body)).json()}
        for version, salt in (("1", 5), ("2", 7)):
            await load(client, salted(salt), version)
            answer = (await client.post("/reward", json=body)).json()
            assert answer["model"]["weight_version"] == version
            assert answer["usage"]["cache_hits"] == 0
            by_version[version] = answer
        assert len({answer["groups"][0]["initial_mean_logprob"] for answer in by_version.values()}) == 3


async def test_weights_pushed_under_load_never_yield_a_stale_number():
    """Many equal requests while the weights change again and again: all answers are those of their version."""
    contexts = [f"{number}+{number}=" for number in range(3)]
    versions = {"0": 0, **{str(number): number for number in range(1, 7)}}

    async def truth(salt: int) -> list[float]:
        async with opened(cache_mb=0) as quiet:
            await load(quiet, salted(salt), "x")
            return await asked(quiet)

    async def asked(client: httpx.AsyncClient) -> list[float]:
        while (
            answer := await client.post("/score", json=body)
        ).status_code == 503:  # the weights changed too often
            assert answer.json()["error"]["code"] == "unavailable"
        assert answer.status_code == 200, answer.text
        answers.append(answer.json())
        return [item["sum_logprob"] for item in answers[-1]["items"]]

    body = {"items": [{"context": context, "target": "42"} for context in contexts]}
    answers: list[dict] = []
    expected = {version: await truth(salt) for version, salt in versions.items()}
    assert len({tuple(found) for found in expected.values()}) == len(versions)
    answers.clear()

    async with opened(dummy_token_seconds=2e-5, max_batch_tokens=1) as client:
        done = asyncio.Event()

        async def hammer() -> None:
            while not done.is_set():
                await asked(client)

        workers = [asyncio.create_task(hammer()) for _ in range(8)]

        async def until_served(version: str) -> None:
            await until(lambda: any(answer["model"]["weight_version"] == version for answer in answers))

        first, *others = versions
        await until_served(first)
        for version in others:
            await load(client, salted(versions[version]), version)
            await until_served(version)
        done.set()
        await asyncio.gather(*workers)
    for answer in answers:
        found = [item["sum_logprob"] for item in answer["items"]]
        assert found == expected[answer["model"]["weight_version"]]
    assert {answer["model"]["weight_version"] for answer in answers} == set(versions)
    assert any(answer["usage"]["cache_hits"] for answer in answers)
