"""A trainer's own vLLM by a call, scripted: who tells what, and what becomes of its failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import opera_demo
from opera_client import AsyncRewardClient
from opera_client.errors import EngineFailed, NotSupported, WeightVersionMismatch
from opera_service.engines.base import GenerationRequest
from opera_service.engines.vllm import in_process
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder
from opera_vllm.asking import PromptRows


class Trainer:
    """A trainer's call; the log-probability of a token is minus its id over a hundred."""

    model, dtype = "policy", "float32"
    max_model_len = 64

    def __init__(self, *, plugin: bool = True, told: bool = True) -> None:
        self.plugin, self.told = plugin, told
        self.step = 3
        self.asked: list[tuple[list[int], int | None]] = []
        self.failure: Exception | None = None
        self.lost = 0

    async def score(self, token_ids: list[int], first_row: int | None) -> PromptRows:
        self.asked.append((token_ids, first_row))
        if self.failure:
            raise self.failure
        first, cached = (first_row + 1, first_row // 4 * 4) if self.plugin and first_row is not None else (1, 0)
        rows = token_ids[first:]
        if self.lost and first_row is not None:
            self.lost, rows = self.lost - 1, rows[:-1]
        return PromptRows(rows, [-one / 100 for one in rows], cached if self.told else None, f"step-{self.step}")


def tree() -> TokenTree:
    builder = TreeBuilder()
    builder.score(builder.extend(ROOT, [1, 2]), [3, 4])
    builder.score(builder.extend(ROOT, [1, 2, 5, 6, 7]), [6])
    return builder.build()


LOGPROBS = np.float32([-0.03, -0.04, -0.06])


async def test_the_plugin_is_found_and_used():
    trainer = Trainer()
    engine = await in_process.connect(trainer, vocab_size=10)
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, LOGPROBS)
    assert (engine.info.route, engine.info.engine) == ("prefix-cache", "vllm-rollout")
    assert scores.tokens_computed == 4 + 6 - 4
    assert scores.weight_version == "step-3"


@pytest.mark.parametrize("trainer", [Trainer(plugin=False), Trainer(told=False)])
async def test_any_other_recomputes(trainer):
    engine = await in_process.connect(trainer, vocab_size=10)
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, LOGPROBS)
    assert engine.info.route == "recomputed"
    assert trainer.asked[-1][1] is None


async def test_a_lost_row_is_scored_afresh():
    trainer = Trainer()
    engine = await in_process.connect(trainer, vocab_size=10)
    trainer.lost = 1
    (scores,) = await engine.score([tree()])
    np.testing.assert_array_equal(scores.logprobs, LOGPROBS)


async def test_whatever_the_trainers_engine_raises_is_typed():
    trainer = Trainer()
    engine = await in_process.connect(trainer, vocab_size=10)
    trainer.failure = RuntimeError("it sleeps")
    with pytest.raises(EngineFailed, match="RuntimeError: it sleeps"):
        await engine.score([tree()])


async def test_it_gives_no_entropies():
    engine = await in_process.connect(Trainer(), vocab_size=10)
    with pytest.raises(NotSupported, match="--engine vllm or torch"):
        await engine.score([tree(), replace(tree(), want_entropy=True)])


async def test_it_does_not_sample():
    engine = await in_process.connect(Trainer(), vocab_size=10)
    with pytest.raises(NotSupported, match="for the trainer alone"):
        await engine.generate([GenerationRequest(np.int32([1, 2]), max_tokens=2)])


async def test_rewards_are_refused_when_the_weights_moved_since_the_rollout():
    """The service knows the weights only by what they scored, so it asks first and judges afterwards."""
    trainer = Trainer()
    trainer.model, trainer.max_model_len = str(Path(opera_demo.__file__).parent / "model"), 512
    group = {
        "prompt": "Where is the box?",
        "reference": "The box is in the shop.",
        "trajectories": [
            {"response": f"<think>Mia has it.\n\nWait, Tom took it.</think>{end}"} for end in ("a", "b")
        ],
    }
    async with AsyncRewardClient.in_process(rollout=trainer) as client:
        assert (await client.reward([group], weight_version="step-3")).model.weight_version == "step-3"
        trainer.step = 4
        with pytest.raises(WeightVersionMismatch, match=r"'step-3'.*'step-4'"):
            await client.reward([group], weight_version="step-3")
        answer = await client.reward([group])
        assert answer.model.weight_version == "step-4"
        assert answer.usage.cache_hits == 0
        assert (await client.model()).route == "prefix-cache"
