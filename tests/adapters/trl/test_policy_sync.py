"""The scorer follows the policy: at each reward call it has the weights of that very step, or gives no reward."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.adapters.gate import Gate, serving
from tests.adapters.trl.test_grpo import Noted, dataset
from transformers import TrainerCallback
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


def test_a_resumed_training_follows_under_a_name_of_its_own(service, model, tokenizer, options, tmp_path) -> None:
    """The service lives on and knows the first run's later weights by that run's names."""
    saving = options(save_strategy="steps", save_steps=1)
    trainer_of(model, tokenizer, saving, Noted(service.url), PolicySync(service.url, run_id="first")).train()
    reward = Noted(service.url, follow_policy=True, run_id="again")
    resumed = trainer_of(model, tokenizer, saving, reward, PolicySync(service.url, run_id="again"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert [(call["step"], None in call["rewards"]) for call in reward.calls] == [(1, False), (2, False)]
    with RewardClient(service.url) as client:
        assert client.policy().weight_version == "again/3"


class Receiver:
    """In a client's place: keeps what is pushed."""

    def __init__(self) -> None:
        self.pushed: dict[str, dict[str, torch.Tensor]] = {}

    def push_weights(self, path: Path, version: str) -> None:
        self.pushed[version] = load_file(path)


class Diary(TrainerCallback):
    """Keeps the policy's own weights."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_begin(self, args, state, control, model=None, **_) -> None:
        self.weights.append({name: tensor.clone() for name, tensor in whole_tensors(model).items()})

    on_step_end = on_train_begin


def test_a_running_mean_follows_slowly_and_survives_a_checkpoint(
    service, model, tokenizer, options, tmp_path
) -> None:
    saving = options(max_steps=2, save_strategy="steps", save_steps=1, learning_rate=1e-2)
    receiver, diary = Receiver(), Diary()
    sync = PolicySync(client=receiver, run_id="mean", decay=0.75)
    trainer_of(model, tokenizer, saving, Noted(service.url), diary, sync).train()
    mean = diary.weights[0]
    for step, weights in enumerate(diary.weights):
        mean = {name: 0.75 * mean[name] + 0.25 * weights[name] for name in mean}
        found = receiver.pushed[f"mean/{step}"]
        assert found.keys() == mean.keys()
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, mean[name])
    head = "model.embed_tokens.weight"
    assert (found[head] - weights[head]).abs().max() > 1e-3  # it does lag behind

    later = Receiver()
    sync = PolicySync(client=later, run_id="again", decay=0.75)
    resumed = trainer_of(model, tokenizer, saving, Noted(service.url), sync)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert list(later.pushed) == ["again/1", "again/2"]
    assert all(
        torch.equal(tensor, receiver.pushed["mean/1"][name]) for name, tensor in later.pushed["again/1"].items()
    )


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
