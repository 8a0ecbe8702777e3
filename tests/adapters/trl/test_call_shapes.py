"""How trainers other than GRPO and RLOO call a reward: AsyncGRPO by its call shape, OnlineDPO also for real."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from typing import Any

import pytest
from tests.adapters.trl.test_grpo import dataset
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer
from trl.trainer.utils import get_callable_name, is_async_callable

from opera_adapters.trl import Blocking, OperaReward
from opera_client import RewardClient
from opera_client.errors import InvalidRequest, Unavailable
from opera_demo.world import tasks

TASKS = tasks("train", 2)
RIGHT = [f"<think>\n{task.events[0]}.\n\n</think>\n\n{task.reference}" for task in TASKS]
WRONG = [f"<think>\nWait.\n\n</think>\n\n{task.sentence(0)}" for task in TASKS]


def conversation(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def direct(url: str, *groups: tuple[Any, str, list[dict[str, Any]]]) -> list[list[float | None]]:
    with RewardClient(url) as client:
        return client.reward(
            [{"prompt": prompt, "reference": known, "trajectories": tried} for prompt, known, tried in groups]
        ).rewards


def test_trl_sees_a_named_async_function(service) -> None:
    reward = OperaReward(service.url, name="opera_paper")
    assert is_async_callable(reward)
    assert get_callable_name(reward) == "opera_paper"
    assert not is_async_callable(Blocking(reward))
    assert get_callable_name(Blocking(reward)) == "opera_paper"


def test_async_grpo_sends_one_group_and_no_helpers(service, tokenizer) -> None:
    """No trainer_state, log_metric or log_extra; the reward is pickled into a spawned process first."""
    reward = pickle.loads(pickle.dumps(OperaReward(service.url)))
    texts = [RIGHT[0], WRONG[0]]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    asked = conversation(TASKS[0].question)
    found = asyncio.run(
        reward(
            completions=[conversation(text, "assistant") for text in texts],
            prompts=[asked] * 2,
            completion_ids=ids,
            reference=[TASKS[0].reference] * 2,
            uid=["7"] * 2,
        )
    )
    assert [found] == direct(
        service.url, (asked, TASKS[0].reference, [{"response_token_ids": one} for one in ids])
    )


def test_online_dpo_lists_all_prompts_twice(service) -> None:
    reward = Blocking(OperaReward(service.url, send="text", num_generations=2))
    found = reward(
        prompts=[task.question for task in TASKS] * 2,
        completions=[*RIGHT, *WRONG],
        completion_ids=[[0]] * 4,
        reference=[task.reference for task in TASKS] * 2,
        trainer_state=None,
    )
    expected = direct(
        service.url,
        *(
            (task.question, task.reference, [{"response": right}, {"response": wrong}])
            for task, right, wrong in zip(TASKS, RIGHT, WRONG, strict=True)
        ),
    )
    assert found == [expected[0][0], expected[1][0], expected[0][1], expected[1][1]]


def test_blocking_inside_a_running_loop(service) -> None:
    async def notebook() -> list[float | None]:
        reward = Blocking(OperaReward(service.url))
        return reward(["q"] * 2, RIGHT, reference=["r"] * 2)

    assert None not in asyncio.run(notebook())


def test_online_dpo_for_real(service, model, tokenizer, tmp_path) -> None:
    trainer = OnlineDPOTrainer(
        model,
        reward_funcs=Blocking(
            OperaReward(service.url, send="text", num_generations=2, on_failure="raise")
        ),
        args=OnlineDPOConfig(
            output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, max_new_tokens=32,
            max_length=128,
            report_to="none", save_strategy="no", use_cpu=True, bf16=False, logging_steps=1, disable_tqdm=True,
        ),
        train_dataset=dataset("conversational"),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    assert [[len(group["trajectories"]) for group in body["groups"]] for body in service.bodies] == [[2, 2]] * 2
    assert all(entry["grad_norm"] > 0 for entry in trainer.state.log_history if "grad_norm" in entry)


def test_a_trainer_that_reads_none_as_zero_is_stopped_instead(service) -> None:
    reward = OperaReward(service.url, on_failure="raise")
    with pytest.raises(Unavailable, match="1 of 2 completions: empty_response"):
        asyncio.run(reward(["q"] * 2, ["", RIGHT[0]], reference=["r"] * 2))


def test_text_mode_sends_no_ids(service) -> None:
    reward = OperaReward(service.url, send="text")
    asyncio.run(reward(["q"] * 2, RIGHT, [[1], [2]], reference=["r"] * 2))
    sent = service.bodies[0]["groups"][0]
    assert sent["prompt"] == "q"
    assert [one["response"] for one in sent["trajectories"]] == RIGHT
    assert not any("response_token_ids" in one for one in sent["trajectories"])


def test_math_rows_by_a_column(service) -> None:
    reward = OperaReward(service.url, task_column="kind")
    boxed = ["<think>\nSix.\n\n</think>\n\n\\boxed{6}", "<think>\nSeven.\n\n</think>\n\n\\boxed{7}"]
    found = asyncio.run(
        reward(
            ["2*3?"] * 2 + ["q"] * 2,
            [*boxed, *RIGHT],
            reference=["6"] * 2 + ["r"] * 2,
            kind=["math", "math", "open", "open"],
        )
    )
    assert found[0] is not None
    assert found[0] >= 0.8
    assert found[1] == 0  # wrong, and judged so: a reward of 0, not a failure
    assert [group["task"] for group in service.bodies[0]["groups"]] == ["math", "open"]


def test_a_missing_column_names_what_there_is(service) -> None:
    with pytest.raises(InvalidRequest, match=r"no column 'reference', only \['gold'\]"):
        asyncio.run(OperaReward(service.url)(["q"], ["a"], gold=["r"]))


def test_prompts_that_the_trainers_tokenizer_cannot_read_cost_their_batch_only(service) -> None:
    """An exception of one rank alone would leave the others waiting for its rows."""

    class Trainer:
        num_generations = 2

        def processing_class(self, text: list[str]) -> None:
            raise UnicodeError("lone surrogate")

        def log_metric(self, name: str, value: float) -> None:
            logged[name] = value

    logged: dict[str, float] = {}
    reward = OperaReward(service.url)
    rows = {"log_metric": Trainer().log_metric, "reference": ["r"] * 2}
    with pytest.raises(InvalidRequest, match="no row can be sent"):  # at first, as training would be in vain
        asyncio.run(OperaReward(service.url)(["q"] * 2, RIGHT, [[1], [2]], **rows))
    asyncio.run(reward(["q"] * 2, RIGHT, None, reference=["r"] * 2))
    found = asyncio.run(reward(["q"] * 2, RIGHT, [[1], [2]], **rows))
    assert found == [None, None]
    assert logged["opera/scored"] == 0


def test_every_argument_is_documented() -> None:
    names = set(inspect.signature(OperaReward).parameters)
    text = inspect.getdoc(OperaReward) or ""
    assert [name for name in names if f"{name}:" not in text and f"{name}," not in text] == []
