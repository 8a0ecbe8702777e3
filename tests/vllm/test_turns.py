"""Turns, hints and other contexts on vLLM: the numbers of float64 transformers and of the torch engine.

Trajectories are ragged, masked, and think again in later turns. The contexts are put together here by hand.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from tests.vllm.test_app import ask, numbers, served

from opera_service.engines.torch.engine import TorchEngine
from opera_service.trajectories.byte_tokenizer import ByteTokenizer

pytestmark = pytest.mark.asyncio(loop_scope="session")
NATS = 1e-4
PROMPT, REFERENCE = "user: What is 17 + 25?<|end|>\nassistant: ", "It is 42."
OPEN, CLOSE, LABEL = "<think>\n", "</think>\n\n", "Answer:\n"
TURNS: list[list[tuple[int, str]]] = [
    [
        (1, "<think>\nI must add.\n\nBut let me ask the tool.\n</think>\n\nadd(17, 25)<|end|>"),
        (0, "\ntool: 42. Wait, It is 42.<|end|>\nassistant: "),
        (1, "add(42, 0)<|end|>"),
        (0, "\ntool: 等 42<|end|>\nuser: So?<|end|>\nassistant: "),
        (1, "<think>\nThe tool says 42.\n\nWait, 7 + 5 carries, so it is right.\n\n</think>\n\nIt is 42."),
    ],
    [
        (1, "<think>\nSeventeen and twenty-five.\n\n</think>\n\nadd(17, 25)<|end|>"),
        (0, "\ntool: 32<|end|>\nassistant: "),
        (1, "The sea is grey and the harbour empty.<|end|>"),
    ],
    [(1, "<think>\nHm.\n\nHowever, 42 it is.\n\nAgain: 7 + 5 is 12.\n\n</think>\n\nSo 42 it is.")],
    [
        (1, "<think>\nI ask first.\n\n</think>\n\nadd(1, 2)<|end|>"),
        (0, "\ntool: " + "3 or so. " * 20 + "<|end|>\nassistant: "),
        (1, "<think>\n" + "It may be 4.\n\nOr not.\n\n" * 4 + "</think>\n\nSeven."),
        (0, "<|end|>\ntool: nobody reads this"),
    ],
]
"""1: what the policy wrote, 0: its environment."""
TOKENIZER = ByteTokenizer()


def encoded(text: str) -> list[int]:
    return TOKENIZER.encode_inside(text).tolist()


def ids_and_mask(pieces: list[tuple[int, str]]) -> tuple[list[int], list[int]]:
    parts = [(own, encoded(text)) for own, text in pieces]
    return [one for _, ids in parts for one in ids], [own for own, ids in parts for _ in ids]


def body(reward: str, trajectories: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    masked = [dict(zip(("response_token_ids", "response_mask"), ids_and_mask(one), strict=True)) for one in TURNS]
    group = {"prompt_token_ids": encoded(PROMPT), "reference": REFERENCE, "trajectories": trajectories or masked}
    return {"reward": reward, "detail": "segments", "groups": [group]}


@pytest.fixture(scope="module")
def mean_logprob(old) -> Callable[[list[int], list[int]], float]:
    """Mean log-prob of a target after a context: transformers in float64, one plain pass each."""
    import torch
    from transformers import Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(old.path, dtype=torch.float64).eval()

    def read(context: list[int], target: list[int]) -> float:
        with torch.inference_mode():
            rows = model(torch.tensor([context + target])).logits[0].log_softmax(-1)
        at = torch.arange(len(context) - 1, len(context) + len(target) - 1)
        return float(rows[at, torch.tensor(target)].mean())

    return read


@pytest_asyncio.fixture(loop_scope="session")
async def torch(old) -> AsyncIterator[httpx.AsyncClient]:
    """The same service on the torch engine."""
    made = TorchEngine.load(old.path, dtype="float32", route="tree_sdpa")
    async with served(made) as client:
        yield client
    await made.aclose()


async def test_steps_are_those_of_float64(engine, mean_logprob):
    async with served(engine) as client:
        (found,) = (await ask(client, "/reward", body("igpo")))["groups"]
    prompt, bridge = encoded(PROMPT), encoded(CLOSE) + encoded(LABEL)
    target = encoded(REFERENCE)

    def level(context: list[int]) -> float:
        return mean_logprob(context + bridge, target)

    for pieces, one in zip(TURNS, found["trajectories"], strict=True):
        ids, mask = ids_and_mask(pieces)
        borders = np.flatnonzero(np.diff(mask, prepend=0, append=0))
        starts, ends = borders[::2].tolist(), borders[1::2].tolist()
        assert [(step["start"], step["end"]) for step in one["steps"]] == list(zip(starts, ends, strict=True))
        befores = [level(prompt + ids[:start] + encoded(OPEN)) for start in starts]
        own = [each for each in one["segments"] if each["start"] >= starts[-1]]
        last = level(prompt + ids[: own[-1]["end"]]) if own else befores[-1]
        expected = [*befores[1:], last]
        assert [step["mean_logprob"] for step in one["steps"]] == pytest.approx(expected, abs=NATS)
        chances = [math.exp(value) for value in (befores[0], *expected)]
        earned = [after - before for before, after in pairwise(chances)]
        assert [step["reward"] for step in one["steps"]] == pytest.approx(earned, abs=NATS)
        assert one["reward"] == pytest.approx(chances[-1] - chances[0], abs=NATS)
        for segment in one["segments"]:
            assert segment["mean_logprob"] == pytest.approx(level(prompt + ids[: segment["end"]]), abs=NATS)
        assert one["response_tokens"] == sum(mask)
    levels = [step["mean_logprob"] for one in found["trajectories"] for step in one["steps"]]
    assert max(levels) - min(levels) > 100 * NATS  # or a wrong context would go unseen


@pytest.mark.parametrize("reward", ["opera", "igpo", "logprob", "rlpr", "jepo", "nover"])
async def test_turns_are_rewarded_as_on_the_torch_engine(engine, torch, reward):
    async with served(engine) as client:
        mine = numbers((await ask(client, "/reward", body(reward)))["groups"])
    other = numbers((await ask(torch, "/reward", body(reward)))["groups"])
    assert mine.keys() == other.keys()
    assert any(".steps." in name for name in mine)
    logprobs = [name for name in mine if "perplexity" not in name]
    assert max(abs(mine[name] - other[name]) for name in logprobs) < NATS


async def hinted(client: httpx.AsyncClient, number: int, pieces: list[tuple[int, str]], run: str) -> None:
    """Tell a trajectory as its tokens come, eleven at a time."""
    ids, mask = ids_and_mask(pieces)
    about = {"prompt_token_ids": encoded(PROMPT), "reference": REFERENCE, "reward": "igpo"}
    for seq, start in enumerate(range(0, len(ids), 11)):
        part = {"token_ids": ids[start : start + 11], "mask": mask[start : start + 11]}
        hint = {"run_id": run, "group_id": "g", "member_id": str(number), "seq": seq, "append": part}
        answer = await client.post("/reward/hint", json=hint | (about if seq == 0 else {}))
        assert (answer.status_code, answer.json()) == (202, {"accepted": True})
        await asyncio.sleep(0.02)


async def settled(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        hints = client._transport.app.state.lifecycle.runtime.hints
        while any(one.working for one in hints._growing.values()):  # noqa: ASYNC110  nothing else tells
            await asyncio.sleep(0.02)


async def test_hints_change_no_number_and_leave_less_to_compute(engine, old):
    answers = []
    for told in (False, True):
        await engine.load_weights(old.path, f"fresh-{told}")  # an empty prefix cache
        async with served(engine) as client:
            if told:
                await asyncio.gather(*(hinted(client, at, one, "run") for at, one in enumerate(TURNS)))
                await settled(client)
                assert client._transport.app.state.lifecycle.runtime.hints.counters()["hints_failed"] == 0
            answers.append(await ask(client, "/reward", body("igpo")))
    cold, warm = answers
    mine, other = numbers(cold["groups"]), numbers(warm["groups"])
    assert mine.keys() == other.keys()
    assert max(abs(mine[name] - other[name]) for name in mine if "perplexity" not in name) < NATS
    saved = cold["usage"]["tokens_computed"] - warm["usage"]["tokens_computed"]
    print(f"\ntokens computed: {cold['usage']['tokens_computed']} cold, {warm['usage']['tokens_computed']} hinted")
    assert saved > 0.2 * cold["usage"]["tokens_computed"]
    assert warm["usage"]["recomputed_contexts"] == 0


async def test_hints_before_new_weights_are_of_no_use_and_do_no_harm(engine, old, new, torch):
    async with served(engine) as client:
        await asyncio.gather(*(hinted(client, at, one, "moved") for at, one in enumerate(TURNS)))
        await settled(client)
        before = numbers((await ask(client, "/reward", body("igpo")))["groups"])
        await engine.load_weights(new.path, "moved")
        moved = numbers((await ask(client, "/reward", body("igpo")))["groups"])
        await engine.load_weights(old.path, "back")
        back = numbers((await ask(client, "/reward", body("igpo")))["groups"])
    other = numbers((await ask(torch, "/reward", body("igpo")))["groups"])
    logprobs = [name for name in other if "perplexity" not in name]
    assert max(abs(before[name] - other[name]) for name in logprobs) < NATS
    assert max(abs(back[name] - other[name]) for name in logprobs) < NATS
    assert max(abs(moved[name] - other[name]) for name in logprobs) > 100 * NATS


async def test_a_response_behind_other_contexts(engine, mean_logprob):
    response, hint = encoded("So it is 42, since 7 + 5 carries."), "user: What is 17 + 25? (It is 42.)<|end|>\n"
    mask = [1] * 5 + [0] * 8 + [1] * (len(response) - 13)
    item = {
        "context_token_ids": encoded(PROMPT),
        "target_token_ids": response,
        "target_mask": mask,
        "other_contexts": [{"name": "hint", "context_token_ids": encoded(hint)}],
    }
    async with served(engine) as client:
        (found,) = (await ask(client, "/score", {"items": [item], "detail": "tokens"}))["items"]

    def tokens(context: str) -> list[float]:
        path = encoded(context)
        return [mean_logprob(path + response[:at], [token]) for at, token in enumerate(response)]

    own, other = tokens(PROMPT), tokens(hint)
    (behind,) = found["other_contexts"]
    priced = [at for at, one in enumerate(mask) if one]
    assert [behind["token_logprobs"][at] for at in priced] == pytest.approx([other[at] for at in priced], abs=NATS)
    differences = [other[at] - own[at] for at in priced]
    assert [behind["token_differences"][at] for at in priced] == pytest.approx(differences, abs=2 * NATS)
    assert behind["sum_difference"] == pytest.approx(sum(differences), abs=len(priced) * NATS)
    assert all(behind["token_logprobs"][at] is None for at, one in enumerate(mask) if not one)
