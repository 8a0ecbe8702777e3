"""The service fails while a real trainer trains: rewards are late or missing, never wrong; training goes on."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from tests.adapters.trl.test_grpo import Noted, dataset, direct
from trl import GRPOConfig, GRPOTrainer

from opera_adapters.trl import OperaReward
from opera_client.errors import InvalidRequest


def train(model: Any, tokenizer: Any, arguments: dict[str, Any], *rewards: Any) -> GRPOTrainer:
    trainer = GRPOTrainer(
        model,
        reward_funcs=list(rewards),
        args=GRPOConfig(**arguments),
        train_dataset=dataset("conversational"),
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer


def logged(trainer: GRPOTrainer) -> list[dict[str, Any]]:
    return [entry for entry in trainer.state.log_history if "opera/scored" in entry]


class Meddled(Noted):
    """Does something to the service before chosen calls."""

    def __init__(self, url: str, before: dict[int, Any], **options: Any) -> None:
        super().__init__(url, **options)
        self.before = before

    async def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
        self.before.get(kwargs["trainer_state"].global_step, lambda: None)()
        return await super().__call__(*args, **kwargs)


def test_busy_answers_delay_but_lose_nothing(service, model, tokenizer, options) -> None:
    """503 three times in a row: the same rewards, later."""
    left = iter(range(3))
    service.refuse = lambda: next(left, None) is not None
    reward = Noted(service.url, timeout_s=60)
    trainer = train(model, tokenizer, options(), reward)
    assert service.statuses.count(503) == 3
    assert [entry["opera/scored"] for entry in logged(trainer)] == [1, 1, 1]
    for call in reward.calls:
        assert call["rewards"] == pytest.approx(direct(service.url, tokenizer, call, 4), abs=2e-5)


def test_a_dead_service_costs_steps_not_the_training(service, model, tokenizer, options) -> None:
    """Killed before the second step, back before the third: that one step has no rewards, no gradient, no 0."""
    reward = Meddled(service.url, {1: service.kill, 2: service.start}, timeout_s=3)
    trainer = train(model, tokenizer, options(), reward)
    assert [entry["opera/scored"] for entry in logged(trainer)] == [1, 0, 1]
    assert reward.calls[1]["rewards"] == [None] * 8
    gradients = [entry["grad_norm"] for entry in logged(trainer)]
    assert gradients[0] > 0
    assert gradients[1] == 0
    assert gradients[2] > 0
    assert reward.calls[2]["rewards"] == pytest.approx(
        direct(service.url, tokenizer, reward.calls[2], 4), abs=2e-5
    )


def test_a_service_that_comes_back_in_time_is_waited_for(service, model, tokenizer, options) -> None:
    def die_for_two_seconds() -> None:
        service.kill()
        threading.Timer(2, service.start).start()

    reward = Meddled(service.url, {1: die_for_two_seconds}, timeout_s=120)
    trainer = train(model, tokenizer, options(), reward)
    assert [entry["opera/scored"] for entry in logged(trainer)] == [1, 1, 1]


def test_a_slow_service_meets_the_deadline(service, model, tokenizer, options) -> None:
    def slow() -> None:
        service.delay_s = 60

    reward = Meddled(service.url, {1: slow}, timeout_s=2)
    start = time.monotonic()
    trainer = train(model, tokenizer, options(max_steps=2), reward)
    assert time.monotonic() - start < 50  # less than one such answer
    assert [entry["opera/scored"] for entry in logged(trainer)] == [1, 0]
    assert logged(trainer)[1]["opera/seconds"] == pytest.approx(2, abs=1.5)


def test_a_refused_completion_alone_has_no_reward(service, model, tokenizer, options) -> None:
    """An id outside the vocabulary spoils its own reward, and the group goes on without it."""

    class Broken(Noted):
        async def __call__(self, prompts, completions, completion_ids, **kwargs) -> list[float | None]:
            completion_ids = [[10**6], *completion_ids[1:]]
            return await super().__call__(
                prompts=prompts, completions=completions, completion_ids=completion_ids, **kwargs
            )

    reward = Broken(service.url)
    trainer = train(model, tokenizer, options(max_steps=1), reward)
    found = reward.calls[0]["rewards"]
    assert found[0] is None
    assert None not in found[1:]
    assert logged(trainer)[0]["opera/scored"] == pytest.approx(7 / 8)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"preset": "no-such"}, "no-such"),
        ({"config": {"comparison": {"temperature": -1}}}, "temperature"),
        ({"reference_column": "gold"}, "no column 'gold'"),
    ],
)
def test_what_no_retry_heals_ends_training_at_once(service, model, tokenizer, options, arguments, line) -> None:
    with pytest.raises(Exception, match=line) as caught:
        train(model, tokenizer, options(), OperaReward(service.url, **arguments))
    assert isinstance(caught.value, InvalidRequest)
