"""A reward around another one: what it plans and reads in addition is its own; everything else is the other's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from opera_service.rewards.base import Reward
from opera_service.rewards.config import RewardConfig

Plan = TypeVar("Plan")


class AroundReward(Reward[RewardConfig, Plan]):
    """Base of rewards that complete another one; a request never names them."""

    needs = ("reference",)
    presets: ClassVar[Mapping[str, RewardConfig]] = {}

    def __init__(self, reward: Reward[Any, Any]) -> None:
        super().__init__(reward.config)
        self._reward = reward

    @property
    def components(self) -> tuple[str, ...]:
        return self._reward.components
