"""OPERA rewards in SkyRL: a generator that rewards whole groups once they are generated.

    opera-reward serve --model Qwen/Qwen3-0.6B &

The dataset's rows have `env_class: opera` and `reward_spec: {ground_truth: <the known answer>}`; derive your entry
point's `get_generator` from `OperaGenerator`. docs/trainers/skyrl.md has the rest.
"""

from __future__ import annotations

import asyncio
from typing import Any

import skyrl_gym
from skyrl.train.generators.skyrl_gym_generator import SkyRLGymGenerator
from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

from opera_adapters.groups import GroupMember, GroupReward
from opera_adapters.turns import masked


class OneAnswer(BaseTextEnv):
    """An environment that ends with the first answer and leaves its reward to the generator."""

    def __init__(self, env_config: Any = None, extras: Any = None) -> None:  # noqa: ARG002
        """SkyRL passes its configuration and the dataset's row; neither is needed here."""
        super().__init__()

    def step(self, action: str) -> BaseTextEnvStepOutput:  # noqa: ARG002
        """End the episode."""
        return BaseTextEnvStepOutput(observations=[], reward=0.0, done=True, metadata={})


skyrl_gym.register(id="opera", entry_point=OneAnswer)


class OperaGenerator(SkyRLGymGenerator):
    """SkyRL's generation with the rewards of whole groups, by the rollout's own token ids and masks.

    Environments of several turns need no other generator: what `loss_masks` leave out is context.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take SkyRL's arguments; `OPERA_REWARD_URL` says where the service is."""
        super().__init__(*args, **kwargs)
        self.group_reward = GroupReward()

    async def generate(self, input_batch: Any, disable_tqdm: bool = False) -> Any:
        """Generate as SkyRL does, then reward; what has no reward has no loss."""
        output = await super().generate(input_batch, disable_tqdm)
        places: dict[str, list[int]] = {}
        for at, trajectory in enumerate(input_batch["trajectory_ids"]):
            places.setdefault(trajectory.instance_id, []).append(at)
        asks = (self._ask(input_batch, output, group) for group in places.values())
        groups = await asyncio.gather(*asks)
        found = dict(pair for group in groups for pair in group)
        output["rewards"] = [found[at].reward for at in range(len(found))]
        for at, member in found.items():
            if not member.scored:
                output["loss_masks"][at] = [0] * len(output["loss_masks"][at])
        for name in next(iter(found.values())).logs:
            mean = sum(member.logs[name] for member in found.values()) / len(found)
            output["rollout_metrics"][f"opera/{name}"] = mean
        return output

    async def _ask(self, asked: Any, output: Any, group: list[int]) -> list[tuple[int, GroupMember]]:
        first = group[0]
        question = {
            "prompt_token_ids": output["prompt_token_ids"][first],
            "reference": asked["env_extras"][first]["reward_spec"]["ground_truth"],
        }
        written = [masked(output["response_ids"][at], output["loss_masks"][at]) for at in group]
        metadata = asked.get("batch_metadata")
        members = await self.group_reward(question, written, step=metadata.global_step if metadata else None)
        return list(zip(group, members, strict=True))
