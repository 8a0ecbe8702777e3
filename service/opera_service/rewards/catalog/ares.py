"""ARES: right answers to easy questions explore less, to hard ones more; exploring is where entropy stays high."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.outcome_advantages import OutcomeConfig, outcomes, told_if_alone
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    Member,
    PolicyReward,
    Values,
    outcome_of,
    outcomes_of,
)
from opera_service.trajectories.encoded import EncodedGroup


class _Level(NamedTuple):
    """The released code's constants for questions of one difficulty."""

    margin: float
    """Share of the target inside which nothing is paid or taken."""
    kappa: float
    """Tokens at which the penalty turns from quadratic to linear."""
    temperature: float
    """Tokens over which a bonus saturates."""
    cap: float
    """Scale of what is paid or taken at most."""
    wrong: float
    """Scale of what a wrong answer earns for exploring."""


_LEVELS = {
    "easy": _Level(0.15, 2.0, 2.0, 1.0, 0.6),
    "medium": _Level(0.25, 3.0, 2.5, 1.0, 0.8),
    "hard": _Level(0.35, 4.0, 3.0, 1.2, 1.0),
}


class AresConfig(OutcomeConfig):
    """Choices of `ares`."""

    alpha: float = Field(
        0.5, ge=0, description="α: what exploring adds or takes at most (1.2 α for hard questions)."
    )
    window: int = Field(4, ge=1, description="A token counts by the mean entropy of so many tokens behind it.")
    threshold_window: int = Field(8, ge=1, description="Tokens of the windows whose quantile is the threshold.")
    quantile: float = Field(
        0.98, gt=0, lt=1, description="Of each member's windows; the threshold is their median."
    )
    pay_wrong: bool = Field(
        False,
        description="A wrong answer earns for exploring, too. As released that is at least 0.3 α for every one.",
    )


class Ares(PolicyReward[AresConfig]):
    """Outcome plus a term that grows or falls with the number of high-entropy tokens."""

    name = "ares"
    summary = "Right or wrong, plus what exploring is worth: less of it for easy questions, more for hard ones."
    source = "ARES, arXiv 2510.08457, and its released code"
    needs = ("entropy", "group", "outcome")
    equation = (
        "r = outcome + term(N - mean N of the group), N = #tokens before which, as a window, entropy stays high"
    )
    unsettled = (
        "The released code counts only tokens of a list of reasoning words; here every token counts.",
        "Difficulty, target and threshold are over a training run there, with moving averages; here over "
        "the group: two thirds right is easy, one third medium.",
        "α is adapted to the target during training there; here it is fixed.",
    )
    components = ("outcome", "explored", "target", "term")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": AresConfig(),
        "paper": AresConfig(guards=NO_GUARDS, pay_wrong=True),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:
        """Compare every member's number of high-entropy tokens with the group's."""
        config = self.config
        members = told_if_alone(members)
        right = outcomes(group, members, self.name)
        entropies = [one.numbers.entropies[one.numbers.written] for one in members]
        honest = [own for own, one in zip(entropies, members, strict=True) if one.valid] or entropies
        threshold = float(
            np.median([np.quantile(_behind(own, config.threshold_window), config.quantile) for own in honest])
        )
        explored = np.array([float((_behind(own, config.window) >= threshold).sum()) for own in entropies])
        target = float(np.round(explored.mean()))
        solved = float(right.mean())
        name = "easy" if solved >= 2 / 3 else "medium" if solved >= 1 / 3 else "hard"
        found = []
        for one, outcome, count in zip(members, right, explored, strict=True):
            term = self._term(name, right=bool(outcome), delta=count - target, target=target) if one.valid else 0.0
            components = {
                "outcome": float(outcome),
                "explored": float(count),
                "target": target,
                "term": term + 0.0,
            }
            found.append(outcome_of(one, float(outcome) + term, components))
        return outcomes_of(found, threshold=threshold, solved=solved)

    def _term(self, name: str, *, right: bool, delta: float, target: float) -> float:
        """Return what a member's distance from the target, in tokens, is worth."""
        level = _LEVELS[name]
        margin, cap = max(1.0, level.margin * max(target, 1.0)), self.config.alpha * level.cap
        if not right:
            return (
                level.wrong * cap * _saturated(max(delta - margin, 0.0), level) if self.config.pay_wrong else 0.0
            )
        if name == "hard":
            if delta >= -margin:
                return cap * _saturated(delta + margin, level)
            return -min(cap, 0.5 * _huber(-delta - margin, level) / (margin + level.kappa) * cap)
        far = max((delta if name == "easy" else abs(delta)) - margin, 0.0)
        return -min(cap, _huber(far, level) / (margin + level.kappa) * cap)


def _behind(entropies: Values, window: int) -> Values:
    """Return the mean entropy of the `window` tokens behind each token that has so many; of all behind it else."""
    sums = np.concatenate([[0.0], np.cumsum(entropies)])
    starts = np.arange(1, len(entropies))
    if len(starts) == 0:
        return entropies
    ends = np.minimum(starts + window, len(entropies))
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _huber(far: float, level: _Level) -> float:
    return 0.5 * far * far / level.kappa if far <= level.kappa else far - 0.5 * level.kappa


def _saturated(over: float, level: _Level) -> float:
    return float(1 / (1 + np.exp(-over / level.temperature)))
