"""Base of rewards that only count which answers of a group say the same; they put nothing on the tree."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.base import GroupOutcome, Outcome, Reward
from opera_service.rewards.config import Equality, RewardConfig
from opera_service.rewards.policy_tokens import NO_REFERENCE
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.encoding_config import ContextConfig


class CountConfig(RewardConfig):
    """How answers are compared."""

    context: ContextConfig = ContextConfig(controls=False)
    equality: Literal["task", "math", "text"] = Field(
        "task",
        description="`math`: the last boxes are the same mathematics (math-verify); `text`: the same words; "
        "`task`: the first for math tasks, the second for open ones.",
    )

    def classes_of(self, task: str) -> Equality:
        """Return how answers are compared."""
        if self.equality != "task":
            return self.equality
        return "math" if task == "math" else "text"


Config = TypeVar("Config", bound=CountConfig)


class Counts:
    """How often each answer of a group was given."""

    def __init__(self, classes: tuple[int | None, ...]) -> None:
        self.classes = classes
        known = [one for one in classes if one is not None]
        self.counts = np.bincount(known) if known else np.zeros(0, dtype=np.int64)
        """By class, of those that answered."""
        self.size = len(classes)
        """Members, those without an answer included."""

    @property
    def shares(self) -> NDArray[np.float64]:
        """Return each member's share of the group that answered like it; 0 without an answer."""
        return np.array([0.0 if one is None else self.counts[one] / self.size for one in self.classes])

    @property
    def entropy(self) -> float:
        """Entropy of the classes in nats; everybody without an answer is a class of its own."""
        alone = self.size - int(self.counts.sum())
        shares = np.array([*self.counts, *[1] * alone]) / self.size
        return float(-(shares * np.log(shares)).sum()) + 0.0

    @property
    def distinct(self) -> int:
        """Return the number of different answers."""
        return len(self.counts)


class CountReward(Reward[Config, None]):
    """Base of rewards that are functions of the answers' counts."""

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> None:
        """Put nothing on the tree."""

    def read(self, group: EncodedGroup, plan: None, scores: TreeScores) -> GroupOutcome:  # noqa: ARG002
        """Turn counts into outcomes; a group of one agrees with nobody, and is paid nothing."""
        counts = Counts(group.classes)
        alone = np.zeros(counts.size), ("uninformative",)
        rewards, flags = self.values(counts) if counts.size > 1 else alone
        shares = counts.shares
        return GroupOutcome(
            tuple(
                Outcome(
                    reward=float(rewards[at]),
                    components={"share": float(shares[at]), "entropy": counts.entropy},
                    token_logprobs=NO_REFERENCE,
                    flags=(*one.flags, *flags, *(("no_answer",) if counts.classes[at] is None else ())),
                )
                for at, one in enumerate(group.trajectories)
            ),
            NO_REFERENCE,
            {"answers": float(counts.distinct)},
        )

    @property
    def components(self) -> tuple[str, ...]:
        """Share of the group that answered alike, and the entropy of the group's answers."""
        return "share", "entropy"

    @abstractmethod
    def values(self, counts: Counts) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Return the rewards of two members or more, and the group's flags."""
