"""The whole service on vLLM: the same numbers as on the torch engine, branches, and weights over HTTP."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from safetensors.numpy import load_file, save

from opera_service.engines.torch.engine import TorchEngine
from opera_service.server.app import create_app
from opera_service.server.backends import Backend
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

pytestmark = pytest.mark.asyncio(loop_scope="session")
NATS = 1e-4
THOUGHTS = [
    "17 + 25 is 32.\n\n",
    "Wait, 7 + 5 carries.\n\n",
    "But is that so? Let me check again.\n\n",
    "x" * 29 + "\n\n",
]


@asynccontextmanager
async def served(engine, **settings) -> AsyncIterator[httpx.AsyncClient]:
    """An app around `engine`, which it does not close. The byte tokenizer's ids fit the tiny model's 512."""
    # What comes again is the engine's business here.
    app = create_app(Settings(engine="dummy", cache_mb=0, **settings), backend=Backend(engine, ByteTokenizer()))
    app.state.lifecycle.start()
    runtime = await app.state.lifecycle.ready()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=120) as client:
        yield client
    await runtime.gatherer.aclose()
    await runtime.sampling_dispatcher.aclose()
    await runtime.tree_dispatcher.aclose()
    runtime.updates.close()


@pytest_asyncio.fixture(loop_scope="session")
async def vllm(engine, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served(engine, policy_root=str(tmp_path)) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def torch(old) -> AsyncIterator[httpx.AsyncClient]:
    engine = TorchEngine.load(old.path, dtype="float32", route="tree_sdpa")
    async with served(engine) as client:
        yield client
    await engine.aclose()


async def ask(client: httpx.AsyncClient, path: str, body: dict) -> dict:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def ragged_groups() -> dict:
    rng = np.random.default_rng(5)
    groups = []
    for number in range(3):
        members = [
            {"response": f"<think>\n{''.join(rng.choice(THOUGHTS, size))}</think>\n\nIt is {answer}."}
            for size, answer in ((1, 42), (3 + number, 32), (6, 4), (2, 17))
        ]
        groups.append(
            {"prompt": f"What is {number} + 25?\n" * (number + 1), "reference": "42.", "trajectories": members}
        )
    return {"groups": groups, "detail": "tokens"}


def numbers(value: object, path: str = "") -> dict[str, float]:
    """Every float of an answer's groups by its path."""
    if isinstance(value, dict):
        return {k: v for name, one in value.items() for k, v in numbers(one, f"{path}.{name}").items()}
    if isinstance(value, list):
        return {k: v for place, one in enumerate(value) for k, v in numbers(one, f"{path}.{place}").items()}
    return {path: value} if isinstance(value, float) else {}


async def test_rewards_equal_the_torch_engine_s(vllm, torch):
    body = ragged_groups()
    for _ in range(2):  # cold, then from the cache
        mine, other = (
            numbers((await ask(vllm, "/reward", body))["groups"]),
            numbers((await ask(torch, "/reward", body))["groups"]),
        )
        assert mine.keys() == other.keys()
        logprobs = [name for name in mine if "perplexity" not in name]
        assert len(logprobs) > 100
        assert max(abs(mine[name] - other[name]) for name in logprobs) < NATS
        assert max(abs(mine[name] / other[name] - 1) for name in mine.keys() - logprobs) < 1e-3


async def test_64_requests_at_once_equal_the_torch_engine_s(vllm, torch):
    rng = np.random.default_rng(64)
    bodies = []
    for number in range(64):  # four of each group, as retries and many trainers send them
        size = 1 + number // 4 % 5
        response = f"<think>\n{''.join(rng.choice(THOUGHTS, size))}</think>\n\nIt is {number}."
        group = {
            "prompt": f"What is {number // 4}?\n",
            "reference": "4.",
            "trajectories": [{"response": response}],
        }
        bodies.append({"groups": [group], "detail": "segments"})
    answers = await asyncio.gather(*(ask(vllm, "/reward", body) for body in bodies))
    for body, answer in zip(bodies, answers, strict=True):
        mine, other = (one["groups"][0]["trajectories"][0] for one in (answer, await ask(torch, "/reward", body)))
        assert mine["reward"] == pytest.approx(other["reward"], abs=NATS)
        assert mine["mean_logprob"] == pytest.approx(other["mean_logprob"], abs=NATS)
        gains = [[segment["gain"] for segment in one["segments"]] for one in (mine, other)]
        assert gains[0] == pytest.approx(gains[1], abs=2 * NATS)


@pytest.mark.parametrize("by", ["branch", "sequence", "reference"])
async def test_rankings_equal_the_torch_engine_s(vllm, torch, by):
    item = {
        "prompt": "What is 17 + 25?\n",
        "prefix": "<think>\nSo ",
        "candidates": THOUGHTS,
        "by": by,
        "reference": "42",
    }
    (mine,), (other,) = [(await ask(client, "/rank", {"items": [item]}))["items"] for client in (vllm, torch)]
    assert mine["ranking"] == other["ranking"]
    for one, two in zip(mine["candidates"], other["candidates"], strict=True):
        assert one["score"] == pytest.approx(two["score"], abs=NATS)


async def test_entropies_equal_the_torch_engine_s(vllm, torch):
    items = [
        {"context": "2 + 2 = ", "target": "4"},
        {"context": "2 + 3 = ", "target": "5, as everybody knows.", "entropy": True},
    ]
    body = {"items": items, "detail": "tokens"}
    mine, other = [(await ask(client, "/score", body))["items"] for client in (vllm, torch)]
    assert len(mine[1]["token_entropies"]) == mine[1]["tokens"] > 5
    found, expected = numbers(mine), numbers(other)
    assert found.keys() == expected.keys()
    for name in found:
        rough = {"rel": 1e-3} if "perplexity" in name else {"abs": NATS}
        assert found[name] == pytest.approx(expected[name], **rough), name


@pytest.mark.parametrize("reward", ["rent", "pear", "ares", "high_entropy", "empg", "steer"])
@pytest.mark.parametrize("preset", ["paper", "hardened"])
async def test_rewards_on_entropies_equal_the_torch_engine_s(vllm, torch, reward, preset):
    responses = [
        "<think>\n17 + 25 is 32.\n\nWait, 7 + 5 carries.\n\nSo 42.\n\n</think>\n\nIt is \\boxed{42}.",
        "<think>\nThe sea is grey and the harbour empty.\n\n</think>\n\nIt is \\boxed{32}.",
        "<think>\nHm.\n\nBut let me check: 17, 25.\n\n</think>\n\n\\boxed{42}",
    ]
    group = {"prompt": "What is 17 + 25?\n", "reference": "42", "task": "math"}
    group["trajectories"] = [{"response": text} for text in responses]
    body = {"reward": reward, "preset": preset, "groups": [group], "detail": "tokens"}
    mine, other = [(await ask(client, "/reward", body))["groups"][0]["trajectories"] for client in (vllm, torch)]
    assert [one["status"] for one in mine] == ["ok"] * 3
    found, expected = numbers(mine), numbers(other)
    assert found.keys() == expected.keys()
    assert len(found) >= 9
    for name in found:
        assert found[name] == pytest.approx(expected[name], abs=NATS), name


async def test_a_sum_reads_the_trunk_once(vllm):
    """Entropies of a long response beside its references: about the tokens of the dearest term."""
    group = {"prompt": "What is 17 + 25?\n", "reference": "It is 42, of course.", "trajectories": []}
    for own in ("Step", "Part"):
        thought = "".join(f"{own} {n}: {n} and {n} is {2 * n}.\n\n" for n in range(40))
        group["trajectories"].append({"response": f"<think>\n{thought}</think>\n\nIt is {own}."})

    async def computed(terms: list[str], salt: str) -> int:
        own = {**group, "prompt": salt + group["prompt"]}  # or the cache has it
        body = {"rewards": [{"name": name} for name in terms], "groups": [own], "detail": "segments"}
        return (await ask(vllm, "/reward", body))["usage"]["tokens_computed"]

    dearest = await computed(["opera"], "a")
    assert await computed(["opera", "rent", "pear", "empg", "high_entropy"], "b") <= 1.1 * dearest


async def test_branches_that_nobody_waits_for_are_given_up(vllm, engine):
    item = {"prompt": "What is 17 + 25?\n", "n": 8, "max_tokens": 1900, "seed": 4}
    late = await vllm.post("/expand", json={"items": [item], "timeout_s": 0.3})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    async with asyncio.timeout(5):
        while engine.health().gauges["vllm_inflight_tokens"]:  # noqa: ASYNC110  vLLM is told to abort them
            await asyncio.sleep(0.02)


async def test_branches(vllm, engine):
    item = {
        "prompt": "What is 17 + 25?\n",
        "prefix": "<think>\n",
        "n": 6,
        "guiding_words": ["Wait", "But"],
        "max_tokens": 24,
        "seed": 4,
    }
    (one,) = (await ask(vllm, "/expand", {"items": [item]}))["items"]
    (again,) = (await ask(vllm, "/expand", {"items": [item]}))["items"]
    assert [branch["token_ids"] for branch in one["candidates"]] == [
        branch["token_ids"] for branch in again["candidates"]
    ]
    assert len({tuple(branch["token_ids"]) for branch in one["candidates"]}) == 6
    candidates = [{"token_ids": branch["token_ids"]} for branch in one["candidates"]]
    rank = {"prompt": item["prompt"], "prefix": item["prefix"], "candidates": candidates}
    (ranked,) = (await ask(vllm, "/rank", {"items": [rank]}))["items"]
    assert one["ranking"] == ranked["ranking"]
    for branch, other in zip(one["candidates"], ranked["candidates"], strict=True):
        assert branch["score"] == pytest.approx(other["score"], abs=NATS)


async def test_a_stop_text_cuts_and_spares_the_rest(vllm):
    item = {"prompt": "What is 17 + 25?\n", "n": 4, "max_tokens": 200, "seed": 4}
    whole = await ask(vllm, "/expand", {"items": [item]})
    ids = whole["items"][0]["candidates"][0]["token_ids"]
    # Bytes that are text by themselves, so that the request can name them.
    place = next(i for i in range(2, 60) if all(0x21 <= token < 0x30 for token in ids[i : i + 1]))
    stop = chr(ids[place])
    cut = await ask(vllm, "/expand", {"items": [{**item, "stop": [stop]}]})
    for branch, all_of_it in zip(cut["items"][0]["candidates"], whole["items"][0]["candidates"], strict=True):
        assert all_of_it["token_ids"][: len(branch["token_ids"])] == branch["token_ids"]
        assert stop not in branch["text"]
    assert cut["items"][0]["candidates"][0]["stopped_by"] == stop
    assert cut["usage"]["generated_tokens"] < whole["usage"]["generated_tokens"]


async def test_weights_are_loaded_and_pushed(vllm, old, new, group, tmp_path, engine):
    tree = group(90, prompt=50, cuts=[[64, 90]], reference=7)
    before = (await vllm.get("/policy")).json()
    shutil.copytree(new.path, tmp_path / "step")
    loaded = await ask(vllm, "/policy/load", {"path": str(tmp_path / "step"), "weight_version": "loaded"})
    assert (loaded["previous_version"], loaded["changed"]) == ("0", True)
    assert abs(loaded["canary"]["mean_logprob"] - before["canary"]["mean_logprob"]) > 0.01
    (scores,) = await engine.score([tree])
    assert scores.weight_version == "loaded"
    assert new.error(tree, scores) < NATS
    body = save(load_file(old.path / "model.safetensors"), metadata={"format": "pt"})
    pushed = await vllm.put("/policy/weights", content=body, headers={"X-Weight-Version": "pushed"})
    assert pushed.status_code == 200, pushed.text
    assert pushed.json()["canary"]["mean_logprob"] == pytest.approx(before["canary"]["mean_logprob"], abs=NATS)
    (scores,) = await engine.score([tree])
    assert scores.weight_version == "pushed"
    assert old.error(tree, scores) < NATS


async def test_weights_unlike_their_sender_s_are_refused(vllm, new, old, group, engine):
    body = (new.path / "model.safetensors").read_bytes()
    headers = {"X-Weight-Version": "liar", "X-Canary-Logprob": "-1.0"}
    response = await vllm.put("/policy/weights", content=body, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "canary_mismatch")
    tree = group(91, prompt=50, cuts=[[64]], reference=7)
    (scores,) = await engine.score([tree])
    assert scores.weight_version == "0"
    assert old.error(tree, scores) < NATS
