"""A weighted sum of rewards, planned on one token tree: contexts that its terms share are computed once.

Knows no reward by name; the registry makes the terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_client.wire import Formula
from opera_service.rewards.base import SAYS_NOTHING, ByReference, GroupOutcome, Outcome, Reward
from opera_service.rewards.for_group import for_group
from opera_service.rewards.formulas import weighted_sum
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.encoding_config import ConfigModel


class TermConfig(ConfigModel):
    """One term of the sum."""

    name: str = Field(description="A reward of the registry.")
    weight: float = Field(1.0, description="0 reports the term and its token weights, and pays nothing.")
    preset: str | None = Field(None, description="That of the sum by default.")
    config: dict[str, Any] = Field(default_factory=dict, description="Overrides single fields of the preset.")


class SumConfig(ConfigModel):
    """What is summed; a request gives it as `rewards`."""

    rewards: tuple[TermConfig, ...] = Field(
        (TermConfig(name="opera"),), min_length=1, max_length=16, description="The terms, in order."
    )


class Term(NamedTuple):
    """A reward and what it counts."""

    config: TermConfig
    """With the preset and the resolved configuration of `reward`."""
    reward: Reward[Any, Any]

    @classmethod
    def of(cls, config: TermConfig, preset: str, reward: Reward[Any, Any]) -> Term:
        """Return the term that `config` describes."""
        resolved = {"preset": preset, "config": reward.config.model_dump(mode="json")}
        return cls(config.model_copy(update=resolved), reward)

    @property
    def weight(self) -> float:
        """What the reward is multiplied by."""
        return self.config.weight


class WeightedSum(Reward[SumConfig, tuple[Any, ...]]):
    """Σ weight · reward. Token rewards are summed alike, token weights multiplied."""

    name = "sum"
    summary = "A weighted sum of rewards, computed on one token tree; each term and its components are reported."
    source = "ours"
    needs = ()
    equation = "Σ weight · reward"
    turns = "It is the sum of what its terms pay the turn."
    presets: ClassVar[Mapping[str, ConfigModel]] = {"hardened": SumConfig(), "paper": SumConfig()}

    def __init__(self, terms: Sequence[Term]) -> None:
        super().__init__(SumConfig(rewards=tuple(term.config for term in terms)))
        self._terms = tuple(terms)
        names = [term.reward.name for term in terms]
        self._labels = [
            name if name not in names[:at] else f"{name}-{1 + names[:at].count(name)}"
            for at, name in enumerate(names)
        ]

    @property
    def parts(self) -> tuple[Reward[Any, Any], ...]:
        """The rewards of its terms."""
        return tuple(term.reward for term in self._terms)

    @property
    def components(self) -> tuple[str, ...]:
        """Every term's reward under its name (from its second appearance on `name-2`), then `name.component`."""
        return tuple(
            name
            for label, term in zip(self._labels, self._terms, strict=True)
            for name in (label, *(f"{label}.{one}" for one in term.reward.components))
        )

    def formula(self, task: str) -> Formula:  # noqa: ARG002 (a sum is one, whatever its terms are made of)
        pairs = zip(self._labels, self._terms, strict=True)
        return weighted_sum({label: term.weight for label, term in pairs})

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> tuple[Any, ...]:
        """Plan every term on the one tree, each with its view of the group."""
        return tuple(reward.plan(view, tree) for reward, view in self._with_views(group))

    def read(self, group: EncodedGroup, plan: tuple[Any, ...], scores: TreeScores) -> GroupOutcome:
        """Sum what the terms read; log-probs and segments are the leading term's."""
        pairs = self._with_views(group)
        found = [reward.read(view, part, scores) for (reward, view), part in zip(pairs, plan, strict=True)]
        paying = [
            term.weight != 0 and any(one.reward for one in outcome.trajectories)
            for term, outcome in zip(self._terms, found, strict=True)
        ]
        return GroupOutcome(
            trajectories=tuple(
                self._summed([one.trajectories[at] for one in found], paying)
                for at in range(len(group.trajectories))
            ),
            initial_logprobs=found[self.lead].initial_logprobs,
            diagnostics={
                f"{label}.{name}": value
                for label, one in zip(self._labels, found, strict=True)
                for name, value in one.diagnostics.items()
            },
        )

    def _with_views(self, group: EncodedGroup) -> list[tuple[Reward[Any, Any], EncodedGroup]]:
        pairs = zip(self.parts, group.views, strict=True)
        return [(for_group(reward, view), view) for reward, view in pairs]

    def _summed(self, outcomes: Sequence[Outcome], paying: Sequence[bool]) -> Outcome:
        lead = outcomes[self.lead]
        components: dict[str, float] = {}
        for label, one in zip(self._labels, outcomes, strict=True):
            components[label] = one.reward
            components |= {f"{label}.{name}": value for name, value in one.components.items()}
        weights = [one.token_weights for one in outcomes if one.token_weights is not None]
        earned = [
            term.weight * one.token_rewards
            for term, one in zip(self._terms, outcomes, strict=True)
            if one.token_rewards is not None
        ]
        return replace(
            lead,
            reward=self._total(outcomes, lambda one: one.reward),
            components=components,
            flags=_flags(outcomes, paying),
            by_reference=tuple(
                ByReference(self._total(outcomes, lambda one, at=at: _by(one, at)), found.token_logprobs)  # type: ignore[misc]
                for at, found in enumerate(lead.by_reference)
            ),
            steps=tuple(
                replace(step, reward=self._total(outcomes, lambda one, at=at: _of_step(one, at, len(lead.steps))))  # type: ignore[misc]
                for at, step in enumerate(lead.steps)
            ),
            token_rewards=_over(np.add, earned),
            token_weights=_over(np.multiply, weights),
        )

    def _total(self, outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> float:
        return sum(term.weight * value(one) for term, one in zip(self._terms, outcomes, strict=True))


def _flags(outcomes: Sequence[Outcome], paying: Sequence[bool]) -> tuple[str, ...]:
    """Return the terms' flags, each once; those that say nothing only if no paying term says something."""
    silent = all(SAYS_NOTHING.intersection(one.flags) for one, pays in zip(outcomes, paying, strict=True) if pays)
    flags = dict.fromkeys(flag for one in outcomes for flag in one.flags)
    return tuple(flag for flag in flags if silent or flag not in SAYS_NOTHING)


def _by(outcome: Outcome, reference: int) -> float:
    """Return the reward by one reference, of a reward that may read none."""
    return outcome.by_reference[reference].reward if outcome.by_reference else outcome.reward


def _of_step(outcome: Outcome, step: int, steps: int) -> float:
    """Return what a turn earned; the last one all of it where a reward reads no turns."""
    if outcome.steps:
        return outcome.steps[step].reward
    return outcome.reward if step == steps - 1 else 0.0


def _over(function: np.ufunc, arrays: Sequence[NDArray[np.floating]]) -> NDArray[np.floating] | None:
    return np.asarray(function.reduce(arrays)) if arrays else None
