"""Our executor inside OpenRLHF's own rollout actor: one request a group, the rollout's ids, failures included."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.adapters.openrlhf.conftest import EXAMPLE, answers
from tests.adapters.openrlhf.experiences import MAX_LENGTH, advantages, concat, experience
from vllm import SamplingParams

from opera_adapters.openrlhf import AgentExecutor
from opera_client import RewardClient
from opera_client.errors import InvalidRequest, NotSupported, Unavailable

PROMPT = "<|im_start|>user\nThe kitchen has {} coins. How many?<|im_end|>\n<|im_start|>assistant\n"
LABEL = "The kitchen now has 16 coins."
COMPONENTS = {"relative", "reflection", "answer", "precision", "relevance", "thought", "value"}
KEYS = COMPONENTS | {"group_size_seen", "opera_failed"}


def direct(url: str, samples: list[dict[str, Any]]) -> list[float | None]:
    """Ask about the ids of one group without the adapter."""
    ((start, _),) = samples[0]["action_ranges"]
    group = {
        "prompt_token_ids": samples[0]["observation_tokens"][:start],
        "reference": LABEL,
        "trajectories": [
            {"response_token_ids": sample["observation_tokens"][slice(*sample["action_ranges"][0])]}
            for sample in samples
        ],
    }
    with RewardClient(url) as client:
        return client.reward([group]).rewards[0]


@pytest.fixture
def agent(tmp_path: Path):
    """Write an agent file as a user does, with the given arguments of the executor."""

    def build(arguments: str = "") -> str:
        path = tmp_path / f"agent{len(list(tmp_path.iterdir()))}.py"
        path.write_text(
            "from opera_adapters import openrlhf\n\n\nclass AgentExecutor(openrlhf.AgentExecutor):\n"
            f"    def __init__(self):\n        super().__init__({arguments})\n"
        )
        return str(path)

    return build


async def test_a_group_is_one_request_with_the_rollouts_ids(group_service, actor, generate) -> None:
    """Eight prompts at once on one engine, as a training batch is; two of them are the same question."""
    engine = await actor(answers(40), agent_func_path=str(EXAMPLE))
    prompts = [PROMPT.format(at) for at in (0, 1, 2, 3, 4, 5, 6, 6)]
    groups = await asyncio.gather(*(generate(engine, prompt, LABEL, 4) for prompt in prompts))
    assert len(group_service.bodies) == 8
    asked = [group for body in group_service.bodies for group in body["groups"]]
    assert [len(group["trajectories"]) for group in asked] == [4] * 8
    assert sorted(group["prompt_token_ids"] for group in asked) == sorted(engine.llm.prompts[::4])
    for samples in groups:
        assert [sample["reward"] for sample in samples] == pytest.approx(
            direct(group_service.url, samples), abs=2e-5
        )
        assert min(sample["scores"] for sample in samples) == 0
        assert max(sample["scores"] for sample in samples) == 1
        assert all(sample["extra_logs"].keys() == KEYS for sample in samples)
        assert all(len(sample["rollout_log_probs"]) == len(sample["observation_tokens"]) for sample in samples)


async def test_evaluation_has_groups_of_its_own_size_without_waiting(group_service, actor, generate) -> None:
    engine = await actor(answers(10), agent_func_path=str(EXAMPLE))
    for size in (4, 2, 1):
        samples = await generate(engine, PROMPT.format(1), LABEL, size)
        assert {sample["extra_logs"]["group_size_seen"] for sample in samples} == {size}
        # OpenRLHF hands them on in half precision.
        assert [sample["reward"] for sample in samples] == pytest.approx(
            direct(group_service.url, samples), abs=2.0**-12
        )


async def test_busy_answers_delay_but_lose_nothing(group_service, actor, generate) -> None:
    left = iter(range(2))
    group_service.refuse = lambda: next(left, None) is not None
    engine = await actor(answers(4), agent_func_path=str(EXAMPLE))
    samples = await generate(engine, PROMPT.format(2), LABEL, 4)
    assert group_service.statuses == [503, 503, 200]
    assert [sample["reward"] for sample in samples] == pytest.approx(direct(group_service.url, samples), abs=2e-5)


async def test_failures_are_experience_like_any_other(group_service, actor, generate, agent) -> None:
    """An empty answer in a group, a group of empty ones, a group that met no service: numbers, and they say so."""
    engine = await actor([*answers(3), "", "", "", "", "", *answers(4)], agent_func_path=agent("timeout_s=1"))
    whole = await generate(engine, PROMPT.format(1), LABEL, 4)
    empty = await generate(engine, PROMPT.format(2), LABEL, 4)
    group_service.refuse = lambda: True
    missed = await generate(engine, PROMPT.format(3), LABEL, 4)
    good = [sample["reward"] for sample in whole if not sample["extra_logs"]["opera_failed"]]
    (bad,) = (sample["reward"] for sample in whole if sample["extra_logs"]["opera_failed"])
    assert len(good) == 3
    assert bad == pytest.approx(sum(good) / 3)
    assert [sample["reward"] for sample in empty + missed] == [0.0] * 8
    assert [sample["scores"] for sample in empty + missed] == [0.0] * 8
    assert all(sample["extra_logs"]["opera_failed"] for sample in empty + missed)
    batch = concat([*whole, *empty, *missed])
    assert batch.rewards.dtype == torch.float32
    assert {*KEYS, "reward", "score"} <= set(batch.info)
    assert all(len(values) == 12 for values in batch.info.values())


@pytest.mark.parametrize(
    ("estimator", "neutral"),
    [
        ("group_norm", True), ("rloo", True), ("dr_grpo", True),
        ("reinforce_baseline", False), ("reinforce", False), ("flash_reinforce", False), ("gae", False),
    ],
)  # fmt: skip
async def test_where_a_constant_is_neutral(group_service, actor, generate, agent, estimator, neutral) -> None:
    """The trainer's own advantages of a group that met no service, beside groups that did."""
    engine = await actor(answers(12), agent_func_path=agent("timeout_s=1"))
    samples = await generate(engine, PROMPT.format(1), LABEL, 4)
    group_service.refuse = lambda: True
    missed = await generate(engine, PROMPT.format(2), LABEL, 4)
    found = advantages([*samples, *missed], 4, estimator)
    assert any(found[:4])
    assert (found[4:] == [0.0] * 4) is neutral


async def test_equal_rewards_teach_nothing(group_service, actor, generate) -> None:
    """Eight equal answers: without care, `group_norm` makes an advantage of the rounding of their mean."""
    engine = await actor([answers(1, 16)[0]], agent_func_path=str(EXAMPLE))
    samples = await generate(engine, PROMPT.format(1), LABEL, 8)
    assert samples[0]["reward"] != 0
    assert samples[0]["reward"] == pytest.approx(direct(group_service.url, samples)[0], abs=2.0**-12)
    assert advantages(samples, 8, "group_norm") == [0.0] * 8


async def test_a_sample_that_is_not_generated_holds_nobody_up(group_service, actor, tokenizer) -> None:
    """Its siblings are rewarded as the group that is left, and the next call of this prompt is another group."""
    engine = await actor(["!", *answers(9)], agent_func_path=str(EXAMPLE))

    async def call(size: int) -> list[Any]:
        asked = (PROMPT.format(1), LABEL, SamplingParams(max_tokens=128), MAX_LENGTH, tokenizer, engine)
        return await asyncio.gather(
            *(engine.executor.execute(*asked) for _ in range(size)), return_exceptions=True
        )

    died, *others = await call(4)
    assert str(died) == "the engine died"
    assert [sample["reward"] for sample in others] == pytest.approx(direct(group_service.url, others), abs=2e-5)
    assert [sample["extra_logs"]["group_size_seen"] for sample in [*others, *await call(2)]] == [3, 3, 3, 2, 2]


async def test_a_group_that_is_complete_leaves_the_next_alone(group_service, actor, tokenizer) -> None:
    """A second pair with the first one's parameters joins between the first one's samples."""
    engine = await actor(answers(9), agent_func_path=str(EXAMPLE))
    asked = (PROMPT.format(1), LABEL, SamplingParams(max_tokens=128), MAX_LENGTH, tokenizer, engine)

    async def later() -> dict[str, Any]:
        await asyncio.sleep(0)
        return await engine.executor.execute(*asked)

    samples = await asyncio.gather(
        engine.executor.execute(*asked), later(), engine.executor.execute(*asked), later()
    )
    assert [sample["extra_logs"]["group_size_seen"] for sample in samples] == [2, 2, 2, 2]


async def test_a_caller_who_leaves_takes_nobodys_reward(group_service, actor, tokenizer) -> None:
    """Also when it was the last to be generated, and its siblings wait for what it asked."""
    group_service.delay_s = 1.0
    engine = await actor(answers(9), agent_func_path=str(EXAMPLE))
    asked = (PROMPT.format(1), LABEL, SamplingParams(max_tokens=128), MAX_LENGTH, tokenizer, engine)
    tasks = [asyncio.create_task(engine.executor.execute(*asked)) for _ in range(3)]
    for _ in range(1000):
        if group_service.bodies:
            break
        await asyncio.sleep(0.01)
    tasks[0].cancel()
    left, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError)
    assert [sample["extra_logs"]["group_size_seen"] for sample in others] == [3, 3]
    assert len(group_service.bodies) == 1


async def test_a_run_does_not_begin_without_a_service(actor, generate, agent) -> None:
    engine = await actor(answers(2), agent_func_path=agent("'http://127.0.0.1:9', timeout_s=0.5"))
    with pytest.raises(Unavailable, match="no group was answered yet"):
        await generate(engine, PROMPT.format(1), LABEL, 2)


@pytest.mark.parametrize(
    ("arguments", "label", "line"),
    [("preset='no-such'", LABEL, "no-such"), ("", "", "field reference")],
)
async def test_what_no_retry_heals_ends_the_run(
    group_service, actor, generate, agent, arguments, label, line
) -> None:
    engine = await actor(answers(2), agent_func_path=agent(arguments))
    with pytest.raises(InvalidRequest, match=line):
        await generate(engine, PROMPT.format(1), label, 2)


async def test_failures_raise_where_they_should(group_service, actor, generate, agent) -> None:
    engine = await actor([*answers(1), ""], agent_func_path=agent("on_failure='raise'"))
    with pytest.raises(Unavailable, match="1 of 2 trajectories: empty_response"):
        await generate(engine, PROMPT.format(1), LABEL, 2)


async def test_text_mode_sends_no_ids(group_service, actor, generate, agent) -> None:
    engine = await actor(answers(2), agent_func_path=agent("send='text', task='open'"))
    await generate(engine, PROMPT.format(1), LABEL, 2)
    (group,) = group_service.bodies[0]["groups"]
    assert group["prompt"] == PROMPT.format(1)
    assert sorted(one["response"] for one in group["trajectories"]) == sorted(answers(2))
    assert not any("response_token_ids" in one for one in group["trajectories"])


async def test_images_are_refused(group_service, actor, generate) -> None:
    engine = await actor(answers(1), agent_func_path=str(EXAMPLE))
    with pytest.raises(NotSupported, match="images"):
        await generate(engine, PROMPT.format(1), LABEL, 1, images=["a.png"])


def test_an_experience_has_every_number(group_service) -> None:
    """What the trainer makes of a sample by itself: a tensor a key."""
    sample = {
        "prompt": "p", "label": "l", "observation_tokens": [1, 2, 3], "action_ranges": [(1, 3)],
        "rollout_log_probs": None, "reward": 0.5, "scores": 1.0, "extra_logs": dict.fromkeys(KEYS, 0.25),
    }  # fmt: skip
    made = experience(sample)
    assert made.info["relative"].tolist() == [0.25]
    assert made.rewards.tolist() == [0.5]


def test_every_engine_has_an_executor_of_its_own() -> None:
    assert AgentExecutor("http://127.0.0.1:1")._gathering is not AgentExecutor("http://127.0.0.1:1")._gathering  # noqa: SLF001
