"""OPERA rewards in slime: whole groups, by the rollout's own token ids.

    --group-rm --custom-rm-path opera_adapters.slime.reward

asks the service at `OPERA_REWARD_URL`. For other settings give the path of a `SlimeReward` of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from opera_adapters.groups import GroupReward
from opera_adapters.turns import masked
from opera_client.errors import NotSupported


class SlimeReward:
    """A group reward function for `--custom-rm-path`; scores land in each sample's `metadata["opera"]`.

    A sample that could not be scored has its `remove_sample` set: slime then learns nothing from it.

    Args:
        url: the service's address; `OPERA_REWARD_URL` or http://127.0.0.1:8000 by default.
        task: `open`, or `math` for answers that are right or wrong.
        options: the further arguments of `GroupReward`.
    """

    def __init__(self, url: str | None = None, *, task: Literal["open", "math"] = "open", **options: Any) -> None:
        self.task = task
        self._reward = GroupReward(url, **options)

    async def __call__(self, args: Any, samples: Sequence[Any], **_: Any) -> list[float | dict[str, float]]:
        """Return a number a sample, or with `--reward-key` a dict that holds it under that key."""
        if not isinstance(samples, Sequence) or any(isinstance(sample, Sequence) for sample in samples):
            raise NotSupported("opera_adapters.slime scores groups of one sample a rollout; set --group-rm")
        first = samples[0]
        question = {
            "prompt_token_ids": list(first.tokens[: len(first.tokens) - first.response_length]),
            "reference": first.label,
            "task": self.task,
        }
        members = await self._reward(question, [_trajectory(sample) for sample in samples])
        for sample, member in zip(samples, members, strict=True):
            sample.metadata = {**(sample.metadata or {}), "opera": {**member.logs, "score": member.score}}
            sample.remove_sample = sample.remove_sample or not member.scored
        key = getattr(args, "reward_key", None)
        return [{**member.logs, key: member.reward} if key else member.reward for member in members]


def _trajectory(sample: Any) -> dict[str, Any]:
    found = masked(
        sample.tokens[len(sample.tokens) - sample.response_length :], getattr(sample, "loss_mask", None)
    )
    return found if "response_mask" in found else {"response": sample.response, **found}


@cache
def _default() -> SlimeReward:
    return SlimeReward()


async def reward(args: Any, samples: Sequence[Any], **_: Any) -> list[float | dict[str, float]]:
    """Score one group with the default settings, for `--custom-rm-path opera_adapters.slime.reward`."""
    return await _default()(args, samples)
