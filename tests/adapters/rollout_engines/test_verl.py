"""verl's replicas as scorer, on its answers as they were recorded: which replica is asked, and what is read.

The servers are scripted here; no vLLM and no Ray.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


@dataclass
class Client:
    """verl's `LLMServerClient`: equal request ids reach the same replica."""

    tokenizer: str = "verl's own"
    asked: list[tuple[str, list[int], dict[str, Any]]] = field(default_factory=list)

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Any:
        self.asked.append((request_id, list(prompt_ids), sampling_params))
        if "prompt_logprobs" not in sampling_params:
            return SimpleNamespace(token_ids=[int(request_id[-1])] * 6, extra_fields={"global_steps": 4})
        first = sampling_params.get("extra_args", {}).get("opera_first_row", 0) + 1
        rows = prompt_ids[first:]
        return SimpleNamespace(
            token_ids=[0],
            extra_fields={
                "global_steps": 4,
                "num_cached_tokens": 2,
                "prompt_ids": [[token] for token in rows] + [[0]],
                "prompt_logprobs": [[-token / 10] for token in rows] + [[0.0]],
            },
        )


@pytest.fixture
def engine(monkeypatch) -> Any:
    for name in ("verl", "verl.workers", "verl.workers.rollout", "verl.workers.rollout.llm_server"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["verl.workers.rollout.llm_server"].LLMServerClient = Client  # type: ignore[attr-defined]
    from opera_adapters.rollout_engines.verl import ReplicasVllm

    return ReplicasVllm(Client(), model="m", dtype="bfloat16", max_model_len=64, run_id="run")


PROMPT = [9, 8, 7]


async def test_a_context_is_scored_where_its_trajectory_was_sampled(engine):
    for session in ("a1", "b2"):
        await engine.generate(session, prompt_ids=PROMPT, sampling_params={})
    for ids, writer in (([*PROMPT, 1, 1, 5, 6], "a1"), ([*PROMPT, 2, 2, 2, 5], "b2"), ([*PROMPT, 2, 6], "b2")):
        await engine.score(ids, 4)
        assert engine.asked[-1][:2] == (writer, ids)


async def test_the_longest_common_prefix_decides(engine):
    """Against comparing with every trajectory, on ids from a small alphabet, where prefixes are often shared."""
    draw = random.Random(0)
    written = {}
    for number in range(60):
        prompt = [draw.randrange(3) for _ in range(draw.randrange(1, 9))]
        written[f"s{number}"] = prompt + [number % 10] * 6
        await engine.generate(f"s{number}", prompt_ids=prompt, sampling_params={})
    for _ in range(200):
        ids = [draw.randrange(3) for _ in range(10)]
        await engine.score(ids, 2)
        shared = {
            name: next(at for at in range(10, -1, -1) if ids[:at] == one[:at]) for name, one in written.items()
        }
        found = engine.asked[-1][0]
        assert shared.get(found, 0) == max(shared.values())


async def test_a_context_of_nobody_is_scored_anywhere(engine):
    await engine.generate("a1", prompt_ids=PROMPT, sampling_params={})
    await engine.score([5, 5, 5], 1)
    assert engine.asked[-1][0] != "a1"


async def test_rows_are_read_without_verls_padding(engine):
    found = await engine.score([1, 2, 3, 4], 1)
    assert (found.token_ids, found.logprobs, found.cached_tokens) == ([3, 4], [-0.3, -0.4], 2)
    assert found.weight_version == "run/4"
    (_, _, params) = engine.asked[-1]
    assert params["extra_args"] == {"opera_first_row": 1}
    assert params["max_tokens"] == 1


async def test_without_a_first_row_the_key_stays_away(engine):
    found = await engine.score([1, 2, 3, 4], None)
    assert found.token_ids == [2, 3, 4]
    assert "extra_args" not in engine.asked[-1][2]


async def test_for_whoever_samples_it_is_verls_client(engine):
    assert engine.tokenizer == "verl's own"


async def test_old_prompts_are_forgotten(engine, monkeypatch):
    monkeypatch.setattr("opera_adapters.rollout_engines.verl._MOST", 2)
    for number in range(3):
        await engine.generate(f"s{number}", prompt_ids=[number, *PROMPT], sampling_params={})
    await engine.score([0, *PROMPT, 5], 2)
    assert engine.asked[-1][0] != "s0"
    await engine.score([2, *PROMPT, 5], 2)
    assert engine.asked[-1][0] == "s2"
