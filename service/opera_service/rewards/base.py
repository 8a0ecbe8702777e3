"""What a reward is: which contexts to price on a token tree, and what the prices are worth.

A reward knows numpy and encoded groups; no tokenizer, no HTTP, no torch. Its numbers are nats and pure
functions of log-probabilities and configuration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from opera_client.wire import Formula
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.encoding_config import ConfigModel

Config = TypeVar("Config", bound=ConfigModel)
Plan = TypeVar("Plan")
Need = Literal["reference", "group", "outcome", "entropy", "second_model"]
"""What a reward reads: a reference, peers, right or wrong, entropies of the policy's tokens, their log-probs under
a second, frozen model."""


@dataclass(frozen=True)
class SegmentOutcome:
    """What one segment did to the reference."""

    mean_logprob: float
    gain: float
    credited: bool
    token_logprobs: NDArray[np.floating]
    """Per reference token, after this segment."""


@dataclass(frozen=True)
class StepOutcome:
    """What one of the policy's turns did to the reference, and what it earned."""

    mean_logprob: float
    gain: float
    reward: float


@dataclass(frozen=True)
class ByReference:
    """What one of several references made of a trajectory."""

    reward: float
    token_logprobs: NDArray[np.floating]
    """Per token of this reference under the trajectory's final context."""


SAYS_NOTHING = frozenset({"no_spread", "uninformative"})
"""Flags of members whose reward does not tell them apart from their peers."""


@dataclass(frozen=True)
class Outcome:
    """The reward of one trajectory and what it was computed from."""

    reward: float
    components: Mapping[str, float]
    """The same keys for every trajectory of a reward and configuration."""
    token_logprobs: NDArray[np.floating]
    """Per reference token under the trajectory's final context."""
    segments: tuple[SegmentOutcome, ...] = ()
    steps: tuple[StepOutcome, ...] = ()
    """One a turn of the policy, where the trajectory came with turns."""
    flags: tuple[str, ...] = ()
    """The flags of the trajectory's encoding, then those of the reward."""
    by_reference: tuple[ByReference, ...] = ()
    """One a reference, where there are several."""
    token_rewards: NDArray[np.floating] | None = None
    """[response tokens]: what a trainer adds to each token's advantage; None where nothing is said of tokens."""
    token_weights: NDArray[np.floating] | None = None
    """[response tokens]: by what it multiplies the advantage before that."""


@dataclass(frozen=True)
class GroupOutcome:
    """Outcomes in the order of the group's trajectories."""

    trajectories: tuple[Outcome, ...]
    initial_logprobs: NDArray[np.floating]
    """Per reference token before any thought."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    """Group-level numbers worth watching, e.g. the calibrated margin."""


class Reward(ABC, Generic[Config, Plan]):
    """A reward bound to one configuration. Subclasses live one a file in `rewards/catalog/`."""

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    """Paper and equation, or the released code it follows."""
    needs: ClassVar[tuple[Need, ...]]
    equation: ClassVar[str] = ""
    """What it computes, in one line; the page of its family has the notation."""
    unsettled: ClassVar[tuple[str, ...]] = ()
    """What the paper leaves open, and what is assumed here."""
    turns: ClassVar[str] = (
        "It pays the trajectory as a whole; the last turn of the policy gets all of it, the others 0."
    )
    """What a turn means for it, and what its step rewards are."""
    presets: ClassVar[Mapping[str, ConfigModel]]
    """At least `paper` and `hardened`."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def formula(self, task: str) -> Formula | None:  # noqa: ARG002 (rewards that are a sum override it)
        """Return how rewards of `task` come from the components; None where they are no weighted sum of them."""
        return None

    def level(self, logprobs: NDArray[np.floating]) -> float | None:  # noqa: ARG002 (those that telescope override it)
        """Return what a trajectory is worth where the reference has these log-probs, token by token.

        A reward that is such a level at the end, or the difference to one at the start, pays each turn by what it
        rises. None where rewards do not telescope.
        """
        return None

    @property
    def parts(self) -> tuple[Reward[Any, Any], ...]:
        """Return the rewards by whose rules trajectories are encoded and judged: this one, or a sum's terms."""
        return (self,)

    @property
    def lead(self) -> int:
        """Return which of `parts` an answer shows log-probs and segments of: the first that reads a reference."""
        return next((at for at, part in enumerate(self.parts) if "reference" in part.needs), 0)

    @property
    def leading(self) -> Reward[Any, Any]:
        """Return the part that `lead` is the place of."""
        return self.parts[self.lead]

    @classmethod
    def bind(cls, config: Config) -> Reward[Any, Any]:
        """Return the reward that reads `config`: this one, unless a preset is read in another way."""
        return cls(config)

    @property
    @abstractmethod
    def components(self) -> tuple[str, ...]:
        """Keys of every outcome's components."""

    @abstractmethod
    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> Plan:
        """Put the contexts to price on `tree`; return whatever `read` needs to find them again."""

    @abstractmethod
    def read(self, group: EncodedGroup, plan: Plan, scores: TreeScores) -> GroupOutcome:
        """Turn the log-probabilities of the planned queries into outcomes."""
