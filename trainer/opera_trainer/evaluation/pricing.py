"""What the reward says of responses: the samples of a task are its group, the greedy one is only priced.

Knows the client; no files.
"""

from __future__ import annotations

from collections.abc import Sequence

from opera_client import AsyncRewardClient
from opera_client.wire import Group, GroupResult, Trajectory, TrajectoryResult
from opera_trainer.artefacts import Rollout, Task
from opera_trainer.evaluation.responses import Response, Responses
from opera_trainer.settings.grpo import RewardSettings
from opera_trainer.tasks.checks import is_right


async def price(
    client: AsyncRewardClient, answered: Sequence[tuple[Task, Responses]], reward: RewardSettings
) -> list[Rollout]:
    """Return all rollouts with their rewards and prices, None where the service gave none.

    Raises:
        OperaError: the service failed.
    """
    groups = [
        _group(task, mode, some)
        for task, one in answered
        for mode, some in (("sampled", one.sampled), ("greedy", [one.greedy]))
        if any(response.token_ids for response in some)
    ]
    result = await client.reward(groups, reward=reward.name, preset=reward.preset, config=reward.config)
    known = {group.group_id: group for group in result.groups}
    rollouts = []
    for task, one in answered:
        sampled = known.get(f"{task.id}/sampled")
        greedy = known.get(f"{task.id}/greedy")
        rollouts += [_rollout(task, "sampled", at, response, sampled) for at, response in enumerate(one.sampled)]
        rollouts.append(_rollout(task, "greedy", 0, one.greedy, greedy))
    return rollouts


def _group(task: Task, mode: str, responses: Sequence[Response]) -> Group:
    return Group(
        group_id=f"{task.id}/{mode}",
        task=task.kind,
        prompt=task.prompt,
        reference=task.reference,
        trajectories=[
            Trajectory(id=str(at), response=one.text, response_token_ids=one.token_ids)
            for at, one in enumerate(responses)
            if one.token_ids
        ],
    )


def _rollout(task: Task, mode: str, at: int, response: Response, group: GroupResult | None) -> Rollout:
    scored = _scored(group, str(at))
    alone = mode == "greedy"
    return Rollout.model_validate(
        {
            "task_id": task.id,
            "tier": task.tier,
            "mode": mode,
            "sample": at,
            "prompt": task.prompt,
            "reference": task.reference,
            "response": response.text,
            "tokens": len(response.token_ids),
            "right": is_right(task, response.text),
            # A group of one has no peers: its reward would say nothing.
            "reward": scored.reward if scored and not alone else None,
            "components": scored.components if scored and not alone else None,
            "mean_logprob": scored.mean_logprob if scored else None,
            "initial_mean_logprob": group.initial_mean_logprob if group else None,
            "segments": scored.segments if scored else None,
            "flags": scored.flags if scored else [],
        }
    )


def _scored(group: GroupResult | None, name: str) -> TrajectoryResult | None:
    if group is None:
        return None
    return next((one for one in group.trajectories if one.id == name and one.status == "ok"), None)
