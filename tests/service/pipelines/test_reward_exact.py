"""/reward on a random tiny Qwen3 in float32 against float64 transformers, context by context, and the formulas.

The contexts and the formulas are written again here, from the documentation, without the service's code.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import httpx
import pytest

from opera_service.server.app import create_app
from opera_service.server.settings import Settings

PROMPT = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"
MESSAGES = [{"role": "user", "content": "What is 17 + 25?"}]
REFERENCE = "It is 42, since 7 + 5 carries."
RESPONSES = [
    "<think>\n17 + 25 is 32, or so it seems to me.\n\nWait, that is not right: 7 + 5 carries.\n\n"
    "But the sum stays the same, however large it is.\n\nSo 42 it is.</think>\n\nThe answer is 42.<|im_end|>",
    "<think>The sea is grey and the harbour empty.\n\n\nHmm, maybe not; let me check it again.\n\n</think>42",
    "<think>\n等等,让我再想一想。 It is a quiet evening.\n\nHowever, the second number is larger.\n\n"
    "Wait, let me check that the sum is right, again.\n\n</think>\n\nIt is 42.",
    "<think>\nbutter\n\n</think>\n\nSeven.",
]
CONTROLS = [
    "Wait, let me think about this again.\n\n",
    "Hmm, let me go over this once more before I go on.\n\n",
    "But let me take another look at what I have so far.\n\n",
    "However, I should be careful here and check it again.\n\n",
]
NATS = 2e-5


@asynccontextmanager
async def serving(model: Path, dtype: str = "float32", **settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(engine="torch", model=str(model), dtype=dtype, device="cpu", **settings))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        yield client


def request(preset: str, **changes) -> dict[str, Any]:
    trajectories = [{"response": text} for text in RESPONSES]
    groups = [{"prompt": MESSAGES, "reference": REFERENCE, "trajectories": trajectories}]
    return {"preset": preset, "detail": "tokens", "groups": groups, **changes}


async def answer_of(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post("/reward", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


class Prices:
    """The oracle, remembering what it was asked."""

    def __init__(self, oracle: Callable[[list[int], list[int]], list[float]]) -> None:
        self.oracle = oracle
        self.paths: set[tuple[int, ...]] = set()

    def __call__(self, context: list[int], target: list[int]) -> list[float]:
        self.paths.add((*context, *target[:-1]))
        return self.oracle(context, target)

    @property
    def distinct_tokens(self) -> int:
        """Size of the trie of everything that must be fed."""
        return len({path[:length] for path in self.paths for length in range(1, len(path) + 1)})


async def test_paper(tiny_qwen: Path, hf_tokenizer, oracle):
    price = Prices(oracle)
    async with serving(tiny_qwen) as client:
        answer = await answer_of(client, request("paper"))
    (group,) = answer["groups"]

    def encode(text: str) -> list[int]:
        return hf_tokenizer(text, add_special_tokens=False).input_ids

    def decoded(text: str) -> str:
        return hf_tokenizer.decode(encode(text), skip_special_tokens=True)

    prompt, target = decoded(PROMPT), encode(REFERENCE)
    initial = price(encode(prompt + "<think>"), target)
    finals = [price(encode(prompt + decoded(text)), target) for text in RESPONSES]
    assert group["initial_mean_logprob"] == pytest.approx(mean(initial), abs=NATS)
    credited_anywhere = False
    for text, final, found in zip(RESPONSES, finals, group["trajectories"], strict=True):
        thought = decoded(text).split("<think>")[1].split("</think>")[0]
        paragraphs = [part.strip() for part in thought.strip().split("\n\n") if part.strip()]
        assert [segment["text"].strip() for segment in found["segments"]] == paragraphs
        context, level, count = prompt + "<think>", mean(initial), 0
        for paragraph, segment in zip(paragraphs, found["segments"], strict=True):
            context += paragraph + "\n\n"
            tokens = price(encode(context), target)
            assert segment["token_logprobs"] == pytest.approx(tokens, abs=NATS)
            assert segment["mean_logprob"] == pytest.approx(mean(tokens), abs=NATS)
            assert segment["gain"] == pytest.approx(mean(tokens) - level, abs=2 * NATS)
            reflective = any(word in paragraph.lower() for word in ("but", "wait", "hmm", "however"))
            count += reflective and mean(tokens) > level
            level = mean(tokens)
        assert found["token_logprobs"] == pytest.approx(final, abs=NATS)
        relative = sum(mean(other) < mean(final) for other in finals) / (len(finals) - 1)
        assert found["components"] == pytest.approx({"relative": relative, "reflection": math.tanh(count / 2)})
        assert found["reward"] == pytest.approx(0.3 * relative + 0.7 * math.tanh(count / 2))
        credited_anywhere |= count > 0
    assert credited_anywhere
    assert len({found["reward"] for found in group["trajectories"]}) > 2
    assert answer["usage"]["tokens_computed"] == pytest.approx(price.distinct_tokens, rel=0.05)


async def test_hardened(tiny_qwen: Path, hf_tokenizer, oracle):
    price = Prices(oracle)
    async with serving(tiny_qwen) as client:
        answer = await answer_of(client, request("hardened"))
        brief = await answer_of(client, request("hardened", detail="reward"))
    (group,) = answer["groups"]

    def encode(text: str) -> list[int]:
        return hf_tokenizer(text, add_special_tokens=False).input_ids

    close, label, target = encode("</think>\n\n"), encode("Answer:\n"), encode(REFERENCE)
    prompt = encode(PROMPT)
    start = prompt + encode("<think>\n")
    initial = price(start + close + label, target)
    assert group["reference_tokens"] == len(target)
    assert group["initial_mean_logprob"] == pytest.approx(mean(initial), abs=NATS)
    weights = [min(max(-one, 1e-3), 5.0) for one in initial]
    if len(weights) > 12:
        weights[0] = 1e-3

    def gain(tokens: list[float]) -> float:
        clipped = [min(max(after - before, -5.0), 5.0) for after, before in zip(tokens, initial, strict=True)]
        clipped = [one if one > 0 else 0.7 * one for one in clipped]
        return sum(u * one for u, one in zip(weights, clipped, strict=True)) / sum(weights)

    values: list[float] = []
    for text, found in zip(RESPONSES, group["trajectories"], strict=True):
        response = encode(text.removesuffix("<|im_end|>"))
        offset = text.index("</think>") + len("</think>")
        offset += len(text[offset:]) - len(text[offset:].lstrip())
        first = max(k for k in range(len(response)) if len(hf_tokenizer.decode(response[:k])) <= offset)
        own, line = response[first:], encode("\n")
        after_answer = price(start + own + line + close + label, target)
        alone = price(start + close, own)
        given = price(start + target + line + close, own)
        unasked = price(encode("<think>\n") + close, own)
        helped = [min(max(with_ - without, -5.0), 5.0) for with_, without in zip(alone, unasked, strict=True)]
        lifted = [min(max(with_ - without, -5.0), 5.0) for with_, without in zip(given, alone, strict=True)]
        for segment in found["segments"]:
            tokens = price(prompt + response[: segment["end"]] + close + label, target)
            assert segment["token_logprobs"] == pytest.approx(tokens, abs=NATS)
        expected = {
            "answer": gain(after_answer),
            "precision": sum(lifted) / (len(own) + 40),
            "relevance": sum(helped) / (len(own) + 20),  # nothing of the prompt and nothing twice in these answers
            "thought": gain(found["segments"][-1]["token_logprobs"]),
        }
        values.append(
            expected["answer"]
            + min(expected["precision"], max(expected["answer"], 0) / 2)
            + min(expected["thought"], max(expected["answer"], 0) / 4)
            - 6 * max(0, 0.2 - max(expected["relevance"], 0) - max(expected["answer"], 0) / 2)
        )
        parts = {key: found["components"][key] for key in expected}
        assert parts == pytest.approx(expected, abs=1e-4)
        assert found["components"]["value"] == pytest.approx(values[-1], abs=1e-4)
        assert found["token_logprobs"] == pytest.approx(after_answer, abs=NATS)

    def beats(gap: float) -> float:
        return 1 / (1 + math.exp(-2 * gap))

    for index, found in enumerate(group["trajectories"]):
        peers = [value for other, value in enumerate(values) if other != index]
        expected_rank = sum(beats(values[index] - value) for value in (*peers, 0.0)) / len(values)
        if max(values) - min(values) >= 0.05:
            assert found["reward"] == pytest.approx(expected_rank, abs=1e-4)
    told = [(one["reward"], one["components"]) for one in brief["groups"][0]["trajectories"]]
    assert told == [(one["reward"], one["components"]) for one in group["trajectories"]]
    assert brief["usage"]["tokens_computed"] < answer["usage"]["tokens_computed"]


async def test_hardened_1(tiny_qwen: Path, hf_tokenizer, oracle):
    price = Prices(oracle)
    async with serving(tiny_qwen) as client:
        answer = await answer_of(client, request("hardened-1"))
    (group,) = answer["groups"]

    def encode(text: str) -> list[int]:
        return hf_tokenizer(text, add_special_tokens=False).input_ids

    prompt, bridge = encode(PROMPT), encode("</think>\n\n")
    target = [*encode(REFERENCE), hf_tokenizer.eos_token_id]
    start = prompt + encode("<think>\n")
    initial = price(start + bridge, target)
    gains = [mean(price(start + encode(control) + bridge, target)) - mean(initial) for control in CONTROLS]
    margin = max(0.005, mean(gains) + 2 * stdev(gains))
    temperature = max(1.0, math.sqrt(len(target) / 8))
    assert group["reference_tokens"] == len(target)
    assert group["initial_mean_logprob"] == pytest.approx(mean(initial), abs=NATS)

    levels: list[list[float]] = []
    for text, found in zip(RESPONSES, group["trajectories"], strict=True):
        response = encode(text)
        path = [sum(initial)]
        for segment in found["segments"]:
            tokens = price(prompt + response[: segment["end"]] + bridge, target)
            assert segment["token_logprobs"] == pytest.approx(tokens, abs=NATS)
            assert segment["mean_logprob"] == pytest.approx(mean(tokens), abs=NATS)
            assert segment["gain"] == pytest.approx(mean(tokens) - path[-1] / len(target), abs=2 * NATS)
            read = hf_tokenizer.decode(response[: segment["end"]])
            assert read.rstrip().endswith(segment["text"].strip())
            path.append(sum(tokens))
        levels.append(path)
    finals = [path[-1] for path in levels]
    for index, (text, found) in enumerate(zip(RESPONSES, group["trajectories"], strict=True)):
        best_peer = max(final for other, final in enumerate(finals) if other != index)
        heights = [math.exp(min(0.0, level - best_peer) / temperature) for level in levels[index]]
        won = 0.0
        for k, segment in enumerate(found["segments"], start=1):
            record = max(levels[index][:k]) / len(target)
            credited = segment["reflective"] and levels[index][k] / len(target) - record > margin
            assert segment["credited"] == credited
            won += credited * max(0.0, heights[k] - max(heights[:k]))
        response, offset = encode(text), text.index("</think>") + len("</think>")
        offset += len(text[offset:]) - len(text[offset:].lstrip())
        start_of_answer = max(k for k in range(len(response)) if len(hf_tokenizer.decode(response[:k])) <= offset)
        own_tokens = price(prompt + response[:start_of_answer], response[start_of_answer:])
        expected = {
            "relative": math.exp((finals[index] - max(finals)) / temperature),
            "reflection": heights[-1] * won,
            "consistency": math.exp(mean(own_tokens)),
            "level": math.exp(finals[index] / len(target)),
        }
        assert found["components"] == pytest.approx(expected, abs=1e-4)
        parts = found["components"]
        assert found["reward"] == pytest.approx(
            parts["relative"] + 0.5 * parts["reflection"] + 0.5 * parts["consistency"]
        )
        assert found["mean_logprob"] == pytest.approx(finals[index] / len(target), abs=NATS)
    assert any(segment["credited"] for found in group["trajectories"] for segment in found["segments"])
    assert answer["usage"]["tokens_computed"] == pytest.approx(price.distinct_tokens, rel=0.05)


@pytest.mark.parametrize("preset", ["paper", "hardened"])
async def test_naive_and_auto_give_the_same_rewards(tiny_qwen: Path, preset: str):
    answers = {}
    for route in ("naive", "auto"):
        async with serving(tiny_qwen, route=route) as client:
            answers[route] = await answer_of(client, request(preset))
    for naive, auto in zip(
        answers["naive"]["groups"][0]["trajectories"], answers["auto"]["groups"][0]["trajectories"], strict=True
    ):
        assert auto["reward"] == pytest.approx(naive["reward"], abs=1e-4)
        assert auto["components"] == pytest.approx(naive["components"], abs=1e-4)
    naive = answers["naive"]["usage"]
    assert answers["auto"]["usage"]["tokens_computed"] < 0.6 * naive["tokens_naive"]
