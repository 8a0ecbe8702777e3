"""OPERA rewards for the Tinker cookbook: the group reward of an `EnvGroupBuilder`, by the rollout's own token ids.

    class Builder(EnvGroupBuilder):
        async def compute_group_rewards(self, trajectory_group, env_group):
            return await REWARD(trajectory_group, reference=self.reference)

Knows the shapes of the cookbook's trajectories, without importing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from opera_adapters.groups import GroupReward
from opera_adapters.turns import of_calls
from opera_client.errors import NotSupported


class TinkerReward:
    """Rewards whole groups: the final reward of each trajectory, and its components as metrics.

    The cookbook adds the rewards of single steps (`Env.step`) to it; leave those 0, or weigh them against it.

    Args:
        url: the service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default.
        task: `open`, or `math` for answers that are right or wrong.
        options: the further arguments of `GroupReward`.
    """

    def __init__(self, url: str | None = None, *, task: Literal["open", "math"] = "open", **options: Any) -> None:
        self.task = task
        self._reward = GroupReward(url, **options)

    async def __call__(
        self, trajectory_group: Sequence[Any], *, reference: str, step: int | None = None
    ) -> list[tuple[float, dict[str, float]]]:
        """Return (reward, metrics) for every trajectory, in order.

        What an environment said between two actions is context. Raises NotSupported for a group whose members were
        asked different things, for observations that are not text, and for one that does not go on from what came
        before it: a renderer that drops earlier thoughts.
        """
        calls = [_calls(trajectory) for trajectory in trajectory_group]
        questions = {tuple(one[0][0]) for one in calls}
        if len(questions) != 1:
            raise NotSupported("the trajectories begin with different observations; they are no group")
        written = [of_calls(one) for one in calls]
        if None in written:
            raise NotSupported(
                "an observation does not begin with all that came before it: the renderer drops or rewrites"
                " earlier turns, so the policy's own tokens are no one trajectory; use a renderer that keeps them"
            )
        question = {"prompt_token_ids": list(*questions), "reference": reference, "task": self.task}
        members = await self._reward(question, [one for one in written if one is not None], step=step)
        return [
            (member.reward, {f"opera/{name}": value for name, value in member.logs.items()}) for member in members
        ]


def _calls(trajectory: Any) -> list[tuple[list[int], list[int]]]:
    """Return what the policy saw and wrote, step by step, as ids."""
    try:
        found = [(list(one.ob.to_ints()), list(one.ac.tokens)) for one in trajectory.transitions]
    except ValueError as error:  # the cookbook's own word for chunks that are not text
        raise NotSupported(f"only text is scored: {error}") from error
    if not found:
        raise NotSupported("a trajectory has no steps, so nothing was written")
    return found
