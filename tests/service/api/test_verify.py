"""POST /verify: rollouts by the shapes of NeMo-Gym (main of August 2026), which was not run."""

from __future__ import annotations

from typing import Any

import pytest

from ..app import opened

THOUGHT = "I should add them."
CALL = {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"a": 17}'}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "42"}


def reasoning(text: str) -> dict[str, Any]:
    return {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": text}]}


def message(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part], **more}


def body(*output: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "responses_create_params": {
            "input": [{"role": "user", "content": "17 + 25?"}],
            "instructions": "Be brief.",
        },
        "response": {"id": "resp", "object": "response", "output": list(output), "tools": []},
        "expected_answer": "42",
        "uuid": "a further column",
        **changes,
    }


PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "17 + 25?"}]
MESSAGES = [reasoning(THOUGHT), message("add(17, 25)"), OUTPUT, reasoning("It says so."), message("It is 42.")]
TURNS = [
    {"role": "assistant", "content": "add(17, 25)", "reasoning_content": THOUGHT},
    {"role": "tool", "content": "42"},
    {"role": "assistant", "content": "It is 42.", "reasoning_content": "It says so."},
]


async def test_a_sum_is_refused_as_the_address_names_no_terms() -> None:
    async with opened() as client:
        answer = await client.post("/verify?reward=sum", json=body(*MESSAGES))
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "config.rewards"


@pytest.mark.parametrize("reward", ["opera", "igpo", "logprob"])
async def test_a_rollout_is_worth_what_its_turns_are(reward: str) -> None:
    async with opened() as client:
        answer = (await client.post(f"/verify?reward={reward}", json=body(*MESSAGES))).json()
        group = {"prompt": PROMPT, "reference": "42", "trajectories": [{"turns": TURNS}]}
        told = (await client.post("/reward", json={"reward": reward, "groups": [group]})).json()
    (expected,) = told["groups"][0]["trajectories"]
    assert answer["reward"] == expected["reward"]
    assert answer["reward_components"] == expected["components"]
    assert answer["step_rewards"] == [step["reward"] for step in expected["steps"]]
    sent = body(*MESSAGES)
    assert {name: answer[name] for name in ("responses_create_params", "response")} == {
        name: sent[name] for name in ("responses_create_params", "response")
    }


async def test_the_ids_of_every_call_are_scored_where_they_are_kept() -> None:
    prompt, first, said, last = (
        [*b"17 + 25?"],
        [*b"<think>a</think>add", 258],
        [*b"\n42\n"],
        [*b"<think>b</think>42"],
    )
    calls = [
        {**CALL, "prompt_token_ids": prompt, "generation_token_ids": first, "generation_log_probs": [0.0]},
        OUTPUT,
        message(
            "42", prompt_token_ids=prompt + first + said, generation_token_ids=last, generation_log_probs=[0.0]
        ),
    ]
    trajectory = {
        "response_token_ids": first + said + last,
        "response_mask": [1] * len(first) + [0] * len(said) + [1] * len(last),
    }
    group = {"prompt_token_ids": prompt, "reference": "42", "trajectories": [trajectory]}
    async with opened() as client:
        answer = (await client.post("/verify?reward=logprob", json=body(*calls))).json()
        told = (await client.post("/reward", json={"reward": "logprob", "groups": [group]})).json()
    assert answer["reward"] == told["groups"][0]["trajectories"][0]["reward"]


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        (body(CALL, OUTPUT, message("42")), 422, "groups.0.trajectories.0.turns.0"),  # no template of tools here
        (body(*MESSAGES, expected_answer=None), 422, "reference"),
        (body(), 422, "response.output"),
        (body({"type": "image_generation_call"}), 422, "response.output.0"),
        (
            body({"type": "message", "role": "assistant", "content": [{"type": "input_image"}]}),
            422,
            "response.output.0",
        ),
        (body(OUTPUT, message("42")), 422, "groups.0.trajectories.0.turns.0.role"),
        (body({"type": "reasoning", "summary": 5}, message("42")), 422, "response.output.0.summary"),
        (
            body({**message("42"), "prompt_token_ids": 7, "generation_token_ids": [1]}),
            422,
            "response.output.0.prompt_token_ids",
        ),
        (
            body({**message("42"), "prompt_token_ids": [7], "generation_token_ids": {"a": 1}}),
            422,
            "response.output.0.generation_token_ids",
        ),
    ],
)
async def test_what_cannot_be_rewarded_is_an_error_and_no_number(sent, status, field) -> None:
    async with opened() as client:
        answer = await client.post("/verify", json=sent)
    assert answer.status_code == status
    assert answer.json()["error"]["field"] == field
    assert "reward" not in answer.json()


async def test_the_url_says_which_reward() -> None:
    async with opened() as client:
        answer = await client.post("/verify?rewrad=opera", json=body(*MESSAGES))
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "rewrad")
