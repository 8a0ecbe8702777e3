"""A group that is scored again, because members came late, counts for the run by its late members only."""

from opera_client.wire import RewardRequest
from opera_service.pipelines.reward import score_groups

from ..app import runtime_on


def request_of(names: str, **fields) -> RewardRequest:
    trajectories = [{"id": name, "response": f"<think>\nIt is {name}.\n\n</think>\n\n42"} for name in names]
    group = {"prompt": "p", "reference": "42", "trajectories": trajectories}
    return RewardRequest.model_validate({"run_id": "run", "groups": [group], **fields})


async def test_only_fresh_trajectories_count():
    runtime = runtime_on()
    again = await score_groups(runtime, request_of("abc"), fresh=frozenset("bc"))
    numbers = runtime.run_health.snapshot()["run"]
    assert (numbers.trajectories, numbers.reward_spread) == (2, None)
    assert again.groups == (await score_groups(runtime, request_of("abc"))).groups
    numbers = runtime.run_health.snapshot()["run"]
    assert numbers.trajectories == 5
    assert numbers.reward_spread is not None
    await runtime.aclose()


async def test_late_members_leave_the_running_mean_alone():
    runtime = runtime_on()
    first = await score_groups(runtime, request_of("abc", preset="paper"))
    assert first.ema_baseline is not None
    late = await score_groups(runtime, request_of("wxyz", preset="paper"), fresh=frozenset("z"))
    assert late.ema_baseline is None
    again = await score_groups(runtime, request_of("abc", preset="paper"))
    assert again.ema_baseline == first.ema_baseline
    await runtime.aclose()
