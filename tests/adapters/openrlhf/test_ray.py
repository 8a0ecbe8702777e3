"""OpenRLHF's own SamplesGenerator on two of its Ray actors: from a dataloader to filtered experience."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator
from openrlhf.trainer.ray.vllm_engine import RolloutRayActor
from tests.adapters.openrlhf.conftest import EXAMPLE, STUBS, answers, write
from tests.adapters.openrlhf.experiences import MAX_LENGTH

from opera_client import RewardClient

ROOT = Path(__file__).parents[3]
SOURCES = [str(ROOT / name) for name in ("service", "client", "trainer_adapters", "trainer")]
PROMPT = "<|im_start|>user\nThe kitchen has {} coins. How many?<|im_end|>\n<|im_start|>assistant\n"
LABEL = "The kitchen now has 16 coins."


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    paths = os.pathsep.join([str(STUBS), str(ROOT), *SOURCES])
    environment = {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    ray.init(
        num_cpus=4, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False,
        runtime_env={"env_vars": environment},
    )  # fmt: skip
    yield
    ray.shutdown()


def generator(tokenizer: Any, engines: list[Any], prompts: list[str], size: int, **filtering: Any) -> Any:
    arguments = SimpleNamespace(
        rollout=SimpleNamespace(batch_size=len(prompts), n_samples_per_prompt=size),
        vllm=SimpleNamespace(enable_sleep=False),
        algo=SimpleNamespace(
            advantage=SimpleNamespace(is_correction_level="off"),
            dynamic_filtering_range=(0, 1),
            dynamic_filtering_enable=False,
            **filtering,
        ),
    )
    rows = [[("d", [prompt], [LABEL], [None]) for prompt in prompts]] * 2
    return SamplesGenerator(SimpleNamespace(args=arguments), rows[0], rows[1], tokenizer, engines)


def groups_of(experiences: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in experiences:
        found.setdefault(one.prompts[0], []).append(one)
    return found


def direct(url: str, group: list[Any]) -> list[float | None]:
    ids = [one.sequences[0].tolist() for one in group]
    starts = [1 + one.action_mask[0].tolist().index(1) for one in group]
    with RewardClient(url) as client:
        return client.reward(
            [
                {
                    "prompt_token_ids": ids[0][: starts[0]],
                    "reference": LABEL,
                    "trajectories": [
                        {"response_token_ids": one[start:]} for one, start in zip(ids, starts, strict=True)
                    ],
                }
            ]
        ).rewards[0]


@pytest.mark.timeout(240)
def test_from_prompts_to_experience(cluster, group_service, sample_service, tokenizer, tmp_path) -> None:
    """Training with groups of four, evaluation with groups of two, the same prompt twice in a batch."""
    write(tmp_path / "texts.json", [*answers(24), ""])
    engines = [
        RolloutRayActor.options(
            num_cpus=1, runtime_env={"env_vars": {"OPERA_REWARD_URL": group_service.url}}
        ).remote(num_gpus=0, model=str(tmp_path / "texts.json"), agent_func_path=str(EXAMPLE))
        for _ in range(2)
    ]
    prompts = [PROMPT.format(at) for at in (0, 1, 2, 3, 3)]
    source = generator(tokenizer, engines, prompts, 4)
    samples, _, consumed, _ = source.generate_samples(max_len=MAX_LENGTH, max_new_tokens=128)
    assert (len(samples), consumed) == (20, 5)
    sizes = [len(group["trajectories"]) for body in group_service.bodies for group in body["groups"]]
    assert sizes == [4] * 5
    for prompt, group in groups_of(samples).items():
        if prompt == prompts[3]:
            continue  # two groups of equal prompts
        if any(one.info["opera_failed"].item() for one in group):
            continue
        assert [one.rewards.item() for one in group] == pytest.approx(direct(group_service.url, group), abs=2e-5)
    evaluated = source.generate_eval_samples(max_len=MAX_LENGTH, max_new_tokens=128, n_samples_per_prompt=2)
    assert len(evaluated) == 10
    assert {one.info["group_size_seen"].item() for one in evaluated} == {2}
