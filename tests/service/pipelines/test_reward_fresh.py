"""A group that is scored again, because members came late, counts for the run by its late members only."""

from opera_client.wire import RewardRequest
from opera_service.engines.dummy import DummyEngine
from opera_service.pipelines.reward import reward
from opera_service.pipelines.service import Service
from opera_service.trajectories.byte_tokenizer import ByteTokenizer


async def test_only_fresh_trajectories_count():
    service = Service(DummyEngine(ByteTokenizer.vocab_size), ByteTokenizer())
    trajectories = [{"id": name, "response": f"<think>\nIt is {name}.\n\n</think>\n\n42"} for name in "abc"]
    group = {"prompt": "p", "reference": "42", "trajectories": trajectories}
    request = RewardRequest.model_validate({"run_id": "run", "groups": [group]})
    again = await reward(service, request, fresh=frozenset("bc"))
    numbers = service.run_health.snapshot()["run"]
    assert (numbers.trajectories, numbers.reward_spread) == (2, None)
    assert again.groups == (await reward(service, request)).groups
    numbers = service.run_health.snapshot()["run"]
    assert numbers.trajectories == 5
    assert numbers.reward_spread is not None
    await service.aclose()
