"""The scorer follows the policy: at each reward call it has the weights of that very step, or gives no reward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.adapters.gate import Gate, serving
from tests.adapters.trl.test_grpo import Noted, dataset
from trl import GRPOConfig, GRPOTrainer

from opera_adapters._policy_sync import whole_tensors
from opera_adapters.trl import PolicySync
from opera_client import RewardClient
from opera_client.errors import InvalidWeights, NotSupported, WeightVersionTaken


@pytest.fixture
def service() -> Iterator[Gate]:
    """A service whose weights a test may replace."""
    with serving(engine="torch") as served:
        yield served


@torch.inference_mode()
def own_logprobs(model: Any, context: list[int], target: list[int]) -> list[float]:
    logits = model(torch.tensor([[*context, *target]])).logits[0, len(context) - 1 : -1]
    return logits.double().log_softmax(-1)[range(len(target)), target].tolist()


class Compared(Noted):
    """At each call, asks the service for its version and prices the first completion on both sides."""

    def __init__(self, url: str, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(url, follow_policy=True, **options)
        self.url, self.model, self.tokenizer = url, model, tokenizer
        self.versions: list[str] = []
        self.apart: list[float] = []

    async def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
        prompt = self.tokenizer.apply_chat_template(kwargs["prompts"][0], add_generation_prompt=True)["input_ids"]
        target = kwargs["completion_ids"][0]
        with RewardClient(self.url) as client:
            item = {"context_token_ids": prompt, "target_token_ids": target}
            answer = client.score([item], detail="tokens")
        self.versions.append(answer.model.weight_version)
        own = own_logprobs(self.model, prompt, target)
        self.apart.append(max(abs(a - b) for a, b in zip(answer.items[0].token_logprobs, own, strict=True)))
        return await super().__call__(*args, **kwargs)


def trainer_of(model: Any, tokenizer: Any, arguments: dict[str, Any], reward: Any, *callbacks: Any) -> GRPOTrainer:
    return GRPOTrainer(
        model,
        reward_funcs=reward,
        args=GRPOConfig(**arguments),
        train_dataset=dataset("conversational"),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )


def test_version_and_logprobs_are_the_trainers_at_every_step(service, model, tokenizer, options) -> None:
    reward = Compared(service.url, model, tokenizer, run_id="run-7")
    trainer_of(model, tokenizer, options(), reward, PolicySync(service.url, run_id="run-7")).train()
    assert reward.versions == ["run-7/0", "run-7/1", "run-7/2"]
    assert max(reward.apart) < 1e-5
    assert all(None not in call["rewards"] for call in reward.calls)
    with RewardClient(service.url) as client:
        assert client.policy().weight_version == "run-7/3"


def test_without_the_push_there_are_no_rewards(service, model, tokenizer, options) -> None:
    """Old weights are refused, not used."""
    reward = Noted(service.url, follow_policy=True)
    trainer_of(model, tokenizer, options(max_steps=1), reward).train()
    assert reward.calls[0]["rewards"] == [None] * 8


def test_a_missed_push_costs_its_step(service, model, tokenizer, options) -> None:
    class Unlucky(PolicySync):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step == 1:
                service.kill()
            super().on_step_end(args, state, control, **kwargs)
            if state.global_step == 1:
                service.start()  # afresh, with the weights it was started with

    reward = Noted(service.url, follow_policy=True)
    trainer_of(model, tokenizer, options(), reward, Unlucky(service.url, timeout_s=2)).train()
    assert [None in call["rewards"] for call in reward.calls] == [False, True, False]


def test_a_second_run_of_the_same_name_is_stopped(service, model, tokenizer, options) -> None:
    trainer_of(model, tokenizer, options(max_steps=1), Noted(service.url), PolicySync(service.url)).train()
    again = trainer_of(model, tokenizer, options(max_steps=1), Noted(service.url), PolicySync(service.url))
    with pytest.raises(WeightVersionTaken, match="version of its own"):
        again.train()


def test_weights_that_are_not_finite_end_training(service, model, tokenizer, options) -> None:
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(InvalidWeights):
        trainer_of(model, tokenizer, options(), Noted(service.url), PolicySync(service.url)).train()


def test_tied_tensors_travel_once(model) -> None:
    names = whole_tensors(model)
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names
    assert set(model.state_dict()) - set(names) == {"lm_head.weight"}


def test_adapters_are_refused(model) -> None:
    model.peft_config = {}
    with pytest.raises(NotSupported, match="merge them"):
        whole_tensors(model)


def test_zero_3_is_refused(model) -> None:
    next(model.parameters()).ds_id = 0
    with pytest.raises(NotSupported, match="ZeRO-3"):
        whole_tensors(model)
