"""EMPG: certain steps count more, and a step that leads to a certain one earns a bonus."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.policy_steps import steps_of
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    Member,
    PolicyConfig,
    PolicyReward,
    mean_over,
    outcome_of,
    outcomes_of,
)
from opera_service.trajectories.encoded import EncodedGroup


class EmpgConfig(PolicyConfig):
    """Choices of `empg`."""

    steps: Literal["turns", "segments"] = Field(
        "turns", description="A step is one of the policy's turns, or a paragraph of the thought and the answer."
    )
    scale: float = Field(1.0, ge=0, description="k: how much more a certain step counts.")
    clarity: float = Field(1.0, ge=0, description="k': how fast the bonus falls with the next step's entropy.")
    bonus: float = Field(0.1, ge=0, description="ζ: the bonus of a step that the most certain one follows.")


class Empg(PolicyReward[EmpgConfig]):
    """Token weights and token rewards; it pays nothing by itself, so put it into a sum."""

    name = "empg"
    summary = "Shapes tokens, pays 0: certain steps weigh more, and one before a certain step has a bonus."
    source = "EMPG, arXiv 2509.09265, eqs. 7, 8, 10-12"
    needs = ("entropy", "group")
    equation = "w_s = exp(-k H̃_s) / mean exp(-k H̃), bonus_s = ζ exp(-k' H̃_next); H̃: min-max of the steps' mean H"
    unsettled = (
        "Minimum, maximum and mean are over a training batch in the paper; here over the group.",
        "The paper then subtracts the batch's mean advantage; that is the trainer's, who has the advantages.",
        "ζ is 0.1 in the authors' pseudocode, 0.05 in a port.",
    )
    components = ("entropy", "steps", "weight", "bonus")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": EmpgConfig(),
        "paper": EmpgConfig(guards=NO_GUARDS),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:  # noqa: ARG002
        """Weigh all steps against each other; what guards do not pay gets no bonus."""
        config = self.config
        spans = [steps_of(one, config.steps) for one in members]
        each = [
            [mean_over(one.numbers.entropies, one.numbers.inside([span])) for span in own]
            for one, own in zip(members, spans, strict=True)
        ]
        pooled = np.array([value for own in each for value in own])
        low, high = float(pooled.min()), float(pooled.max())
        mean = float(np.exp(-config.scale * (pooled - low) / (high - low + _EPSILON)).mean())
        found = []
        for one, own, values in zip(members, spans, each, strict=True):
            level = (np.array(values) - low) / (high - low + _EPSILON)
            scaled = np.exp(-config.scale * level) / mean
            earned = [config.bonus * float(np.exp(-config.clarity * after)) for _, after in pairwise(level)]
            earned = [*earned, 0.0] if one.valid else [0.0] * len(own)
            weights, rewards = np.zeros(len(one.numbers.logprobs)), np.zeros(len(one.numbers.logprobs))
            for span, weight, reward in zip(own, scaled, earned, strict=True):
                weights[slice(*span)], rewards[slice(*span)] = weight, reward
            written = one.numbers.written
            components = {
                "entropy": mean_over(one.numbers.entropies, written),
                "steps": float(len(own)),
                "weight": mean_over(weights, written),
                "bonus": float(sum(earned)),
            }
            shaped = {"token_weights": weights * written, "token_rewards": rewards * written}
            found.append(outcome_of(one, 0.0, components, **shaped))
        return outcomes_of(found, least_entropy=low, most_entropy=high)


_EPSILON = 1e-8
"""Of the authors' pseudocode: steps of one entropy have level 0."""
