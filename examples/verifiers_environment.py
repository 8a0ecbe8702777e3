"""OPERA rewards in a verifiers environment: a group reward function in its Rubric.

    opera-reward serve --model Qwen/Qwen3-0.6B &
    vf-eval verifiers_environment -r 8

verifiers knows a function of groups by its plural arguments. docs/trainers/verifiers.md has the rest.
"""

from __future__ import annotations

from typing import Any

import verifiers as vf
from datasets import Dataset

from opera_adapters.groups import GroupReward

group_reward = GroupReward()


async def opera(prompts: list[Any], completions: list[Any], answers: list[str], states: list[Any]) -> list[float]:
    """Return a number a rollout; what it is made of lands in the rollout's state."""
    question: dict[str, Any] = {"prompt": prompts[0], "reference": answers[0]}
    written: list[dict[str, Any]] = [{"response": completion[-1]["content"]} for completion in completions]
    tokens = [state["trajectory"][-1]["tokens"] for state in states]
    if all(tokens):  # the client knows ids: score the very tokens
        question = {"prompt_token_ids": tokens[0]["prompt_ids"], "reference": answers[0]}
        written = [
            {**one, "response_token_ids": of["completion_ids"]} for one, of in zip(written, tokens, strict=True)
        ]
    members = await group_reward(question, written)
    for state, member in zip(states, members, strict=True):
        state["opera"] = member.logs
    return [member.reward for member in members]


def load_environment(**_: Any) -> Any:
    """Return a single-turn environment; bring your own questions and known answers."""
    rows = [{"question": "Write a line about rain.", "answer": "Rain taps the glass in patient code."}]
    return vf.SingleTurnEnv(dataset=Dataset.from_list(rows), rubric=vf.Rubric(funcs=[opera]))
