"""GRPO and RLOO, the real trainers: gradients flow, logs are full, numbers are those of a direct request."""

from __future__ import annotations

import math
from typing import Any

import pytest
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from opera_adapters.trl import OperaReward
from opera_client import RewardClient
from opera_demo.corpus import prompt
from opera_demo.world import tasks

COMPONENTS = ("relative", "reflection", "answer", "precision", "relevance", "thought", "value")


class Noted(OperaReward):
    """The reward under test, with a memory of what it was asked and what it said."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[dict[str, Any]] = []

    async def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
        rewards = await super().__call__(*args, **kwargs)
        self.calls.append({**kwargs, "rewards": rewards, "step": kwargs["trainer_state"].global_step})
        return rewards


def dataset(kind: str, count: int = 12) -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": task.question}]
                if kind == "conversational"
                else prompt(task.question),
                "reference": task.reference,
            }
            for task in tasks("train", count)
        ]
    )


def direct(url: str, tokenizer: Any, call: dict[str, Any], size: int) -> list[float | None]:
    """Ask about the same ids without the adapter."""
    groups = []
    for at in range(0, len(call["prompts"]), size):
        asked = call["prompts"][at]
        text = asked if isinstance(asked, str) else prompt(asked[0]["content"])
        groups.append(
            {
                "prompt_token_ids": tokenizer(text, add_special_tokens=False)["input_ids"],
                "reference": call["reference"][at],
                "trajectories": [{"response_token_ids": ids} for ids in call["completion_ids"][at : at + size]],
            }
        )
    with RewardClient(url) as client:
        return [reward for group in client.reward(groups).rewards for reward in group]


@pytest.mark.parametrize("kind", ["conversational", "standard"])
@pytest.mark.parametrize(("trainer_type", "config_type"), [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)])
def test_training_on_opera_rewards(service, model, tokenizer, options, kind, trainer_type, config_type) -> None:
    reward = Noted(service.url)
    trainer = trainer_type(
        model,
        reward_funcs=reward,
        args=config_type(**options()),
        train_dataset=dataset(kind),
        processing_class=tokenizer,
    )
    trainer.train()

    assert [call["step"] for call in reward.calls] == [0, 1, 2]
    for call in reward.calls:
        assert None not in call["rewards"]
        assert call["rewards"] == pytest.approx(direct(service.url, tokenizer, call, 4), abs=2e-5)
    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(steps) == 3
    for entry, call in zip(steps, reward.calls, strict=True):
        assert math.isfinite(entry["grad_norm"])
        assert entry["grad_norm"] > 0
        assert entry["reward"] == pytest.approx(sum(call["rewards"]) / 8, abs=1e-5)
        assert entry["opera/scored"] == 1
        assert {f"opera/{name}" for name in (*COMPONENTS, "seconds", "margin")} <= set(entry)
    for name in COMPONENTS:
        assert len(trainer._logs["extra"][f"opera/{name}"]) == 8  # the last batch's completions


def test_the_ids_sent_are_the_trainers_own(service, model, tokenizer, options) -> None:
    """Template arguments included: scored is the very context that the policy wrote after."""
    tokenizer.chat_template += "{{ manner | default('') }}"

    class Watched(GRPOTrainer):
        seen: list[list[int]] = []  # noqa: RUF012

        def _tokenize_prompts(self, prompts: list[Any]) -> Any:
            found = super()._tokenize_prompts(prompts)
            self.seen += found[0]
            return found

    trainer = Watched(
        model,
        reward_funcs=OperaReward(service.url),
        args=GRPOConfig(**options(max_steps=1, chat_template_kwargs={"manner": "Be brief."})),
        train_dataset=dataset("conversational"),
        processing_class=tokenizer,
    )
    trainer.train()
    sent = [group["prompt_token_ids"] for group in service.bodies[0]["groups"]]
    assert sent == [list(trainer.seen[0]), list(trainer.seen[4])]
    assert tokenizer.decode(sent[0]).endswith("Be brief.")


def test_evaluation_has_groups_of_its_own_size(service, model, tokenizer, options) -> None:
    reward = Noted(service.url)
    trainer = GRPOTrainer(
        model,
        reward_funcs=reward,
        args=GRPOConfig(**options(max_steps=1, num_generations_eval=2, per_device_eval_batch_size=4)),
        train_dataset=dataset("conversational"),
        eval_dataset=dataset("conversational", 2),
        processing_class=tokenizer,
    )
    trainer.evaluate()
    assert [[len(group["trajectories"]) for group in body["groups"]] for body in service.bodies] == [[2, 2]]
    assert reward.calls[0]["rewards"] == pytest.approx(
        direct(service.url, tokenizer, reward.calls[0], 2), abs=2e-5
    )


def test_a_wrong_group_size_is_refused(service, model, tokenizer, options) -> None:
    trainer = GRPOTrainer(
        model,
        reward_funcs=OperaReward(service.url, num_generations=8),
        args=GRPOConfig(**options()),
        train_dataset=dataset("conversational"),
        processing_class=tokenizer,
    )
    with pytest.raises(Exception, match="is 8 here and 4 in the trainer"):
        trainer.train()
