"""Rewards from the engine that sampled, in its own process, against a separate service on the same weights."""

from __future__ import annotations

import asyncio
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from opera_adapters.reward import OperaReward
from opera_client import RewardClient
from opera_client.errors import NotSupported

NATS = 1e-4
REFERENCE = "The box is in the shop."
THOUGHT = "<think>Mia has the box.\n\nWait, Tom took it to the shop.\n\nBut the dog saw Tom.</think>"
COMPLETIONS = [THOUGHT + end for end in ("The shop.", "Mia has it.", "The dog.", "Nobody knows.")]


@pytest.fixture
def trainer(engine, model) -> SimpleNamespace:
    """What TRL's GRPOTrainer holds when its vLLM is colocated, as OperaReward sees it."""
    import torch
    from transformers import AutoTokenizer

    generation = SimpleNamespace(mode="colocate", enable_sleep_mode=False, tensor_parallel_size=1, llm=engine.llm)
    return SimpleNamespace(
        vllm_generation=generation,
        processing_class=AutoTokenizer.from_pretrained(model),
        num_generations=4,
        accelerator=SimpleNamespace(device=torch.device("cpu")),
        state=SimpleNamespace(global_step=7),
        _last_loaded_step=7,
    )


def rewards(reward: OperaReward, trainer: Any) -> list[float | None]:
    trainer.log_metric = MethodType(
        lambda self, name, value: None, trainer
    )  # by which OperaReward finds its trainer
    ids = [trainer.processing_class(text)["input_ids"] for text in COMPLETIONS]
    call = reward(
        ["Where is the box?"] * 4, COMPLETIONS, ids,
        reference=[REFERENCE] * 4, trainer_state=trainer.state, log_metric=trainer.log_metric,
    )  # fmt: skip
    return asyncio.run(call)


def test_trl_colocated(trainer, model, engine):
    """The same rewards as from a separate service on the same weights."""
    with RewardClient.in_process(engine="torch", model=str(model), dtype="float32") as service:
        expected = rewards(OperaReward(client=service), trainer)
    found = rewards(OperaReward(score_on="rollout"), trainer)
    assert None not in found
    np.testing.assert_allclose(found, expected, atol=NATS)


def test_trl_refuses_scores_of_weights_that_moved(trainer, caplog):
    trainer._last_loaded_step = 8  # loaded since the rollout
    assert rewards(OperaReward(score_on="rollout"), trainer) == [None] * 4
    assert "asks for weight version '7' but '8' is loaded" in caplog.text


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"mode": "server"}, "vllm-http"),
        ({"enable_sleep_mode": True}, "vllm_enable_sleep_mode=False"),
        ({"tensor_parallel_size": 2}, "vllm_tensor_parallel_size=1"),
    ],
)
def test_trl_says_what_cannot_be_scored_there(trainer, change, remedy):
    vars(trainer.vllm_generation).update(change)
    with pytest.raises(NotSupported, match=remedy):
        rewards(OperaReward(score_on="rollout"), trainer)
