"""Trainers that call a reward with a batch, like TRL: Unsloth, Axolotl, ms-swift, Tunix."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.adapters.relatives.conftest import QUESTIONS, REFERENCES, WRITTEN, conversation, ids, messages

from opera_adapters.reward import Blocking, OperaReward
from opera_client.group_numbers import GRID

ROWS = [0, 0, 1, 1]


def trl_columns() -> dict[str, Any]:
    return {
        "prompts": [conversation(QUESTIONS[at]) for at in ROWS],
        "completions": [conversation(text, "assistant") for text in WRITTEN],
        "completion_ids": [ids(text) for text in WRITTEN],
        "reference": [REFERENCES[at] for at in ROWS],
        "trainer_state": SimpleNamespace(global_step=3),
    }


def test_unsloth_awaits_nothing_and_logs_nothing(service, direct) -> None:
    """Unsloth 2026.8 trains with TRL 0.24: a plain call, no `log_metric`, None read as 0."""
    reward = Blocking(OperaReward(num_generations=2, on_failure="constant"))
    expected = direct(messages, by_ids=True)
    found = reward(**trl_columns())
    assert [*map(float, found)] == expected  # its tensor of rewards takes numbers
    assert service.bodies[0]["step"] == 3
    assert reward.__name__ == "opera"


def test_a_service_that_fails_is_a_constant_where_none_is_zero(service) -> None:
    service.refuse = lambda: True
    reward = Blocking(OperaReward(num_generations=2, on_failure="constant", timeout_s=0.3))
    assert reward(**trl_columns()) == [0.0] * 4


def test_a_member_that_fails_gets_its_own_groups_mean(service) -> None:
    columns = trl_columns()
    columns["completions"][3], columns["completion_ids"][3] = conversation("", "assistant"), []
    found = Blocking(OperaReward(num_generations=2, on_failure="constant", preset="hardened-1"))(**columns)
    assert found[3] == found[2]  # to the last bit: nothing to learn from this group
    assert found[0] != found[1]


def test_axolotl_finds_a_function_of_two_arguments(service, direct, example) -> None:
    """Axolotl 0.18 trains with TRL 1.8, which awaits functions, not objects; it may send them to processes."""
    module = example("axolotl_rewards")
    function = module.opera
    assert len(inspect.signature(function).parameters) >= 2
    assert not inspect.iscoroutinefunction(function)
    logged: dict[str, float] = {}

    class Trainer:
        num_generations = 2
        num_generations_eval = 2
        model = SimpleNamespace(training=True)
        processing_class = None

        def _log_metric(self, name: str, value: float) -> None:
            logged[name] = value

    expected = direct(messages, by_ids=True)
    helpers = {"log_metric": Trainer()._log_metric, "log_extra": lambda name, values: None}
    assert function(**trl_columns(), **helpers) == pytest.approx(expected, abs=GRID)
    assert logged["opera/scored"] == 1
    assert pickle.loads(pickle.dumps(function))(**trl_columns()) == pytest.approx(expected, abs=GRID)


@pytest.mark.parametrize("with_ids", [True, False])
def test_ms_swift_passes_completions_first(service, direct, stand_in, example, with_ids) -> None:
    """ms-swift 4.6: `orms[name](args=args)`, then positional completions, columns, `asyncio.run` for each call."""

    class AsyncORM:
        def __init__(self, args: Any = None, **kwargs: Any) -> None:
            self.args = args

    stand_in("swift")
    orms: dict[str, Any] = {}
    stand_in("swift.rewards", AsyncORM=AsyncORM, orms=orms)
    example("swift_plugin")
    reward = orms["opera"](args=SimpleNamespace(num_generations=2))
    assert inspect.iscoroutinefunction(reward.__call__)
    columns = {
        "trainer_state": SimpleNamespace(global_step=3),
        "messages": [
            conversation(QUESTIONS[at]) + conversation(text, "assistant")
            for at, text in zip(ROWS, WRITTEN, strict=True)
        ],
        "prompt_id": ["a", "a", "b", "b"],
        "request_id": list("wxyz"),
        "finish_reason": ["stop"] * 4,
        "is_truncated": [False] * 4,
        "rollout_infos": [{}] * 4,
        "response_token_ids": [[ids(text)] if with_ids else [] for text in WRITTEN],
        "reference": [REFERENCES[at] for at in ROWS],
    }
    expected = direct(messages, by_ids=with_ids)

    async def gathered() -> list[Any]:
        return await asyncio.gather(*[reward(list(WRITTEN), **columns)])

    for _ in range(2):  # a loop of its own for every batch
        assert asyncio.run(gathered()) == [expected]
    assert ("response_token_ids" in service.bodies[0]["groups"][0]["trajectories"][0]) is with_ids


def test_tunix_passes_arrays_of_templated_text(service, direct, example) -> None:
    """Tunix 0.1.8: keyword call with numpy columns and the step's mode, `np.array` of what comes back."""

    def template(question: str) -> str:
        return f"<start_of_turn>user\n{question}<end_of_turn>\n<start_of_turn>model\n"

    reward = example("tunix_reward").opera_reward(2)
    columns = {
        "prompts": list(np.repeat(np.array([template(question) for question in QUESTIONS]), 2)),
        "completions": list(WRITTEN),
        "mode": "train",
        "reference": np.repeat(np.array(REFERENCES), 2, axis=0),
        "trajectory_ids": ["0_0", "0_1", "1_0", "1_1"],
    }
    expected = direct(lambda question: {"prompt": template(question)})
    rewards = np.zeros((4, 1))
    rewards[:, 0] = np.array(reward(**columns))
    assert rewards[:, 0].tolist() == expected
    service.refuse = lambda: True
    reward.reward._caller.timeout_s = 0.3  # noqa: SLF001
    rewards[:, 0] = np.array(reward(**columns))
    assert rewards[:, 0].tolist() == [0.0] * 4
