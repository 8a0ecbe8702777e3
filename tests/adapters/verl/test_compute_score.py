"""`compute_score` under verl's own `naive` manager, which shows it neither prompt nor group."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.adapters.verl.rollouts import asked, configuration, responses
from tests.adapters.verl.test_members import batch
from verl.experimental.reward_loop import RewardLoopManager

from opera_adapters.verl import compute_score
from opera_client import RewardClient
from opera_client.errors import InvalidRequest


@pytest.fixture(scope="module")
def manager(cluster: None, service) -> Iterator[RewardLoopManager]:
    import ray

    config = configuration(
        service.url,
        reward__custom_reward_function__path="pkg://opera_adapters.verl",
        reward__custom_reward_function__reward_kwargs={
            "group_size": "${actor_rollout_ref.rollout.n}",
            "opera": "${reward.opera}",
        },
        reward__opera__config={"guards": {"format_gate": False}},
    )
    started = RewardLoopManager(config)
    yield started
    for worker in started.reward_loop_workers:
        ray.kill(worker)


def test_texts_are_scored_in_whole_groups(manager: RewardLoopManager, service) -> None:
    data = batch(4)
    scored = manager.compute_rm_score(data)
    with RewardClient(service.url) as client:
        expected = client.reward(
            [
                {
                    "prompt": task.question,
                    "reference": task.reference,
                    "trajectories": [{"response": text} for text in responses(task)],
                }
                for task in asked()[:4]
            ],
            config={"guards": {"format_gate": False}},
        ).rewards
    found = scored.batch["rm_scores"].sum(dim=1).reshape(4, 4).tolist()
    for own, direct in zip(found, expected, strict=True):
        assert own == pytest.approx(direct, abs=2e-5)
    assert list(scored.non_tensor_batch["opera/group_size"]) == [4] * 16


@pytest.mark.parametrize("missing", ["prompt", "index"])
async def test_a_dataset_without_the_prompt_is_told_so(missing: str) -> None:
    row = {"prompt": "What?", "index": 1}
    del row[missing]
    with pytest.raises(InvalidRequest, match=f"no '{missing}'.*OperaRewardManager"):
        await compute_score("demo", "text", "reference", row, group_size=4)
