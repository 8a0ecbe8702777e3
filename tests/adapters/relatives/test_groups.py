"""Trainers that hand over whole groups, or batches of them: verifiers, SkyRL."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, get_origin

import pytest
from tests.adapters.relatives.conftest import QUESTIONS, REFERENCES, WRITTEN, conversation, ids, messages


def by_prompt_ids(question: str) -> dict[str, Any]:
    return {"prompt_token_ids": ids(question)}


@pytest.fixture
def verifiers(stand_in, example) -> Any:
    stand_in("datasets", Dataset=SimpleNamespace(from_list=lambda rows: rows))
    stand_in("verifiers", SingleTurnEnv=SimpleNamespace, Rubric=SimpleNamespace)
    return example("verifiers_environment")


def call_group_function(function: Any, states: list[dict[str, Any]]) -> list[float]:
    """As `Rubric.score_group` of verifiers' legacy environments does: known by its names, called with those."""
    signature = inspect.signature(function)
    assert set(signature.parameters) & {"states", "prompts", "completions", "answers"}
    assert get_origin(signature.return_annotation) is list or "list" in str(signature.return_annotation)
    merged = {
        "prompts": [state["prompt"] for state in states],
        "completions": [state["completion"] for state in states],
        "answers": [state["answer"] for state in states],
        "states": states,
        "tasks": [None] * len(states),
        "infos": [{}] * len(states),
    }
    allowed = {name: value for name, value in merged.items() if name in signature.parameters}
    return asyncio.run(function(**allowed))


@pytest.mark.parametrize("with_ids", [True, False])
def test_verifiers_scores_a_group_of_states(service, direct, verifiers, with_ids) -> None:
    expected = direct(by_prompt_ids if with_ids else messages, by_ids=with_ids)
    states = [
        {
            "prompt": conversation(QUESTIONS[0]),
            "completion": conversation(text, "assistant"),
            "answer": REFERENCES[0],
            "trajectory": [
                {"tokens": {"prompt_ids": ids(QUESTIONS[0]), "completion_ids": ids(text)} if with_ids else None}
            ],
        }
        for text in WRITTEN[:2]
    ]
    assert call_group_function(verifiers.opera, states) == expected[:2]
    assert [state["opera"]["opera_failed"] for state in states] == [0, 0]
    assert [len(group["trajectories"]) for group in service.bodies[0]["groups"]] == [2]


def called(calls: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"tokens": {"prompt_ids": ids(prompt), "completion_ids": ids(text)} if prompt else None}
        for prompt, text in calls
    ]


@pytest.mark.parametrize("form", ["ids", "dropped", "messages"])
def test_verifiers_turns_are_scored_with_their_environment_as_context(service, verifiers, form) -> None:
    """Calls that continue each other are ids and a mask; where a template dropped a thought, messages go."""
    asked, call, said, text = QUESTIONS[0], WRITTEN[1], "\n42\n", WRITTEN[0]
    calls = [(asked, call), (asked + (call + said if form == "ids" else said), text)]
    completion = [*conversation(call, "assistant"), *conversation(said, "tool"), *conversation(text, "assistant")]
    state = {"prompt": conversation(asked), "completion": completion, "answer": REFERENCES[0]}
    state["trajectory"] = called([("", ""), ("", "")] if form == "messages" else calls)
    call_group_function(verifiers.opera, [state])
    (sent,) = service.bodies[0]["groups"][0]["trajectories"]
    if form == "ids":
        assert sent["response_token_ids"] == ids(call + said + text)
        assert sent["response_mask"] == [1] * len(call) + [0] * len(said) + [1] * len(text)
    else:
        assert [turn["role"] for turn in sent["turns"]] == ["assistant", "tool", "assistant"]
    assert state["opera"]["opera_failed"] == 0


def test_verifiers_loads_an_environment_with_that_rubric(verifiers) -> None:
    environment = verifiers.load_environment()
    assert environment.rubric.funcs == [verifiers.opera]
    assert environment.dataset[0].keys() == {"question", "answer"}


@dataclass
class TrajectoryID:
    """SkyRL 0.3."""

    instance_id: str
    repetition_id: int


class Generator:
    """What SkyRLGymGenerator's `generate` answers, for the environment's own reward of 0."""

    def __init__(self, written: list[str]) -> None:
        self.written = written

    async def generate(self, input_batch: dict[str, Any], disable_tqdm: bool = False) -> dict[str, Any]:
        return {
            "prompt_token_ids": [ids(one[0]["content"]) for one in input_batch["prompts"]],
            "response_ids": [ids(text) for text in self.written],
            "rewards": [[0.0] * len(ids(text)) for text in self.written],
            "loss_masks": [[1] * len(ids(text)) for text in self.written],
            "stop_reasons": ["stop"] * len(self.written),
            "rollout_metrics": {"generate/avg_num_tokens": 1.0},
            "rollout_logprobs": None,
        }


@pytest.fixture
def skyrl(stand_in, example) -> Any:
    registered: dict[str, Any] = {}
    stand_in("skyrl_gym", register=lambda **spec: registered.update({spec["id"]: spec["entry_point"]}))
    stand_in("skyrl_gym.envs.base_text_env", BaseTextEnv=object, BaseTextEnvStepOutput=dict)
    stand_in("skyrl.train.generators.skyrl_gym_generator", SkyRLGymGenerator=Generator)
    module = example("skyrl_generator")
    assert registered == {"opera": module.OneAnswer}
    return module


def batch(order: list[int]) -> dict[str, Any]:
    """Two prompts twice, in the given order of prompts."""
    seen: dict[int, int] = {}
    names = []
    for at in order:
        names.append(TrajectoryID(f"uid{at}", seen.get(at, 0)))
        seen[at] = seen.get(at, 0) + 1
    return {
        "prompts": [conversation(QUESTIONS[at]) for at in order],
        "env_classes": ["opera"] * len(order),
        "env_extras": [{"reward_spec": {"ground_truth": REFERENCES[at]}} for at in order],
        "sampling_params": None,
        "trajectory_ids": names,
        "batch_metadata": SimpleNamespace(global_step=7, training_phase="train"),
    }


@pytest.mark.parametrize("order", [[0, 0, 1, 1], [0, 1, 0, 1]])
def test_skyrl_is_rewarded_by_whole_groups(service, direct, skyrl, order) -> None:
    expected = direct(by_prompt_ids, by_ids=True)
    rows = sorted(range(4), key=lambda at: order[at])  # row of the batch, in the order of WRITTEN
    written = [""] * 4
    for text, row in zip(WRITTEN, rows, strict=True):
        written[row] = text
    output = asyncio.run(skyrl.OperaGenerator(written).generate(batch(order)))
    assert [output["rewards"][row] for row in rows] == expected
    assert sorted(len(body["groups"][0]["trajectories"]) for body in service.bodies) == [2, 2]
    assert {body["step"] for body in service.bodies} == {7}
    assert all(all(mask) for mask in output["loss_masks"])
    assert output["rollout_metrics"]["opera/opera_failed"] == 0
    assert "generate/avg_num_tokens" in output["rollout_metrics"]


def test_what_skyrl_masks_is_context(service, skyrl) -> None:
    class Masking(skyrl.OperaGenerator):
        async def _ask(self, asked: Any, output: Any, group: list[int]) -> Any:
            output["loss_masks"][0][3:5] = [0, 0]
            return await super()._ask(asked, output, group)

    asyncio.run(Masking(WRITTEN).generate(batch([0, 0, 1, 1])))
    sent = [one for body in service.bodies for one in body["groups"][0]["trajectories"]]
    assert sorted(one["response_mask"].count(0) for one in sent if one.get("response_mask")) == [2]


def test_what_skyrl_cannot_be_told_has_no_loss(service, skyrl) -> None:
    output = asyncio.run(skyrl.OperaGenerator([*WRITTEN[:3], ""]).generate(batch([0, 0, 1, 1])))
    assert [sum(mask) for mask in output["loss_masks"]] == [*(len(ids(text)) for text in WRITTEN[:3]), 0]
    assert output["rewards"][3] == output["rewards"][2]
    assert output["rollout_metrics"]["opera/opera_failed"] == 0.25


def test_an_episode_of_skyrl_ends_with_its_answer(skyrl) -> None:
    step = skyrl.OneAnswer(env_config=None, extras={}).step("anything")
    assert (step["done"], step["reward"], step["observations"]) == (True, 0.0, [])
