"""Zero code: OpenRLHF's own single-turn executor posts its samples to /openrlhf/reward."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from openrlhf.trainer.ppo_utils.experience import Experience
from tests.adapters.openrlhf.conftest import answers
from tests.adapters.openrlhf.experiences import concat, experience

from opera_client import RewardClient

PROMPT = "<|im_start|>user\nThe kitchen has {} coins. How many?<|im_end|>\n<|im_start|>assistant\n"
LABEL = "The kitchen now has 16 coins."
COMPONENTS = {"relative", "reflection", "answer", "precision", "relevance", "thought", "value"}
KEYS = COMPONENTS | {"group_size_seen", "opera_failed", "opera_partial", "opera_late"}


def direct(url: str, tokenizer: Any, prompt: str, samples: list[dict[str, Any]]) -> list[float | None]:
    """Ask about the texts of one group without the trainer."""
    texts = []
    for sample in samples:
        ((start, end),) = sample["action_ranges"]
        texts.append(tokenizer.decode(sample["observation_tokens"][start:end], skip_special_tokens=False))
    with RewardClient(url) as client:
        group = {"prompt": prompt, "reference": LABEL, "trajectories": [{"response": text} for text in texts]}
        return client.reward([group]).rewards[0]


def url_of(service: Any, size: int, wait_s: float = 60) -> list[str]:
    return [f"{service.url}/openrlhf/reward?group_size={size}&wait_s={wait_s}"]


async def test_groups_of_two_engines_are_whole(sample_service, actor, generate, tokenizer) -> None:
    """Six prompts, four samples each, over two engines at once: every reward is its group's."""
    engines = [await actor(answers(40, first), remote_rm_url=url_of(sample_service, 4)) for first in (0, 40)]
    prompts = [PROMPT.format(at) for at in range(6)]
    groups = await asyncio.gather(
        *(generate(engines[at % 2], prompt, LABEL, 4) for at, prompt in enumerate(prompts))
    )
    for prompt, samples in zip(prompts, groups, strict=True):
        expected = direct(sample_service.url, tokenizer, prompt, samples)
        assert [sample["reward"] for sample in samples] == pytest.approx(expected, abs=2e-5)
        assert {sample["extra_logs"]["group_size_seen"] for sample in samples} == {4}
        assert all(0 <= sample["scores"] <= 1 for sample in samples)
        assert all(sample["extra_logs"].keys() == KEYS for sample in samples)
    assert len(sample_service.bodies) == 24
    assert {tuple(map(len, body.values())) for body in sample_service.bodies} == {(1, 1, 1)}
    assert isinstance(concat([sample for samples in groups for sample in samples]), Experience)


async def test_busy_answers_are_tried_again(sample_service, actor, generate, tokenizer) -> None:
    left = iter(range(2))
    sample_service.refuse = lambda: next(left, None) is not None
    engine = await actor(answers(3), remote_rm_url=url_of(sample_service, 3))
    samples = await generate(engine, PROMPT.format(1), LABEL, 3)
    assert sample_service.statuses.count(503) == 2
    expected = direct(sample_service.url, tokenizer, PROMPT.format(1), samples)
    assert [sample["reward"] for sample in samples] == pytest.approx(expected, abs=2e-5)


async def test_a_sample_sent_again_counts_once(sample_service, actor, generate, tokenizer) -> None:
    """The connection breaks while the sample waits for its group; the trainer's client sends it again."""
    left = iter(range(1))
    sample_service.hang_up = lambda: next(left, None) is not None
    engine = await actor(answers(3), remote_rm_url=url_of(sample_service, 3))
    samples = await generate(engine, PROMPT.format(2), LABEL, 3)
    assert sample_service.statuses.count(504) == 1
    assert len(sample_service.bodies) == 4
    expected = direct(sample_service.url, tokenizer, PROMPT.format(2), samples)
    assert [sample["reward"] for sample in samples] == pytest.approx(expected, abs=2e-5)
    assert {sample["extra_logs"]["group_size_seen"] for sample in samples} == {3}


async def test_a_smaller_group_of_evaluation_is_released_by_the_deadline(
    sample_service, actor, generate, tokenizer
) -> None:
    engine = await actor(answers(2), remote_rm_url=url_of(sample_service, 4, wait_s=1))
    start = time.monotonic()
    samples = await generate(engine, PROMPT.format(3), LABEL, 2)
    assert 1 <= time.monotonic() - start < 30
    expected = direct(sample_service.url, tokenizer, PROMPT.format(3), samples)
    assert [sample["reward"] for sample in samples] == pytest.approx(expected, abs=2e-5)
    assert [sample["extra_logs"]["opera_partial"] for sample in samples] == [1, 1]


async def test_a_prompt_cut_on_the_left_keeps_its_response(sample_service, actor, generate, tokenizer) -> None:
    """The trainer cuts `query`, not `prompts`."""
    engine = await actor(answers(2), remote_rm_url=url_of(sample_service, 2))
    long = PROMPT.format("and " * 60 + "so 5")
    samples = await generate(engine, long, LABEL, 2, max_length=160, max_tokens=128)
    assert all(sample["action_ranges"][0][0] == 32 for sample in samples)
    expected = direct(sample_service.url, tokenizer, long, samples)
    assert [sample["reward"] for sample in samples] == pytest.approx(expected, abs=2e-5)


async def test_failures_are_experience_like_any_other(sample_service, actor, generate) -> None:
    """One empty answer in a group, and a group without any: numbers, the same keys, and they say so."""
    whole = await generate(
        await actor([*answers(3), ""], remote_rm_url=url_of(sample_service, 4)), PROMPT.format(7), LABEL, 4
    )
    nothing = await generate(
        await actor([""], remote_rm_url=url_of(sample_service, 4)), PROMPT.format(8), LABEL, 4
    )
    good = [sample["reward"] for sample in whole if not sample["extra_logs"]["opera_failed"]]
    (bad,) = (sample["reward"] for sample in whole if sample["extra_logs"]["opera_failed"])
    assert bad == pytest.approx(sum(good) / 3)
    assert [sample["reward"] for sample in nothing] == [0.0] * 4
    assert all(sample["extra_logs"]["opera_failed"] for sample in nothing)
    batch = concat([*whole, *nothing])
    assert batch.rewards.shape == (8,)
    assert {*KEYS, "reward", "score"} <= set(batch.info)
    assert all(len(values) == 8 for values in batch.info.values())


async def test_a_dead_service_leaves_the_trainer_without_a_number(sample_service, actor, generate) -> None:
    """OpenRLHF's own end: five tries, then None, and no experience can be made of it."""
    sample_service.refuse = lambda: True
    engine = await actor(answers(2), remote_rm_url=url_of(sample_service, 2))
    samples = await generate(engine, PROMPT.format(9), LABEL, 2)
    assert [sample["reward"] for sample in samples] == [None, None]
    assert len(sample_service.bodies) == 10
    assert experience(samples[0]).rewards is None
