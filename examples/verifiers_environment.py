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
from opera_adapters.turns import has_environment, of_calls, of_messages

group_reward = GroupReward()


async def opera(prompts: list[Any], completions: list[Any], answers: list[str], states: list[Any]) -> list[float]:
    """Return a number a rollout; what it is made of lands in the rollout's state."""
    question: dict[str, Any] = {"prompt": prompts[0], "reference": answers[0]}
    written = [_by_ids(state) for state in states]
    if all(written):  # the client knows ids: score the very tokens
        question["prompt_token_ids"] = states[0]["trajectory"][0]["tokens"]["prompt_ids"]
    else:
        written = [_by_messages(completion) for completion in completions]
    members = await group_reward(question, [one for one in written if one])
    for state, member in zip(states, members, strict=True):
        state["opera"] = member.logs
    return [member.reward for member in members]


def _by_ids(state: Any) -> dict[str, Any] | None:
    """Return every turn's ids; None where the client has none, or a template rewrote an earlier turn."""
    calls = [step["tokens"] for step in state["trajectory"]]
    return of_calls((one["prompt_ids"], one["completion_ids"]) for one in calls) if all(calls) else None


def _by_messages(completion: Any) -> dict[str, Any]:
    messages = [message if isinstance(message, dict) else message.model_dump() for message in completion]
    return of_messages(messages) if has_environment(messages) else {"response": messages[-1]["content"]}


def load_environment(**_: Any) -> Any:
    """Return a single-turn environment; bring your own questions and known answers."""
    rows = [{"question": "Write a line about rain.", "answer": "Rain taps the glass in patient code."}]
    return vf.SingleTurnEnv(dataset=Dataset.from_list(rows), rubric=vf.Rubric(funcs=[opera]))
