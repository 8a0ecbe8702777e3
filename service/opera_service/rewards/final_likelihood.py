"""What OPERA's relatives share: one price per trajectory, of the reference after the closed thought.

A relative says what the prices are worth; planning, guards and assembling outcomes are here.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.base import GroupOutcome, Outcome, Reward, SegmentOutcome
from opera_service.rewards.config import RewardConfig
from opera_service.rewards.copying import UNGUARDED, CopyConfig, CopyGuard
from opera_service.rewards.guards import OFF, GuardConfig, malformed
from opera_service.rewards.reference_logprobs import Logprobs, ReferencePlan, plan_reference, read
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup, EncodedTrajectory
from opera_service.trajectories.encoding_config import AFTER_ANSWERS, ContextConfig


class FinalLikelihoodConfig(RewardConfig):
    """Where the reference is priced, and the text guards."""

    context: ContextConfig = AFTER_ANSWERS
    guards: GuardConfig = GuardConfig(copy_ngram=None, copy_share=None)
    copying: CopyConfig = Field(default_factory=CopyConfig)


def as_published(bridge: str, *, prefix: str = "", suffix: str = "") -> dict[str, Any]:
    """Return what all `paper` presets share: whole reference, the method's tags, no end token, no guard."""
    context = ContextConfig(
        bridge=bridge,
        reference_prefix=prefix,
        reference_suffix=suffix,
        reference_part="full",
        score_end=False,
        controls=False,
    )
    return {"context": context, "guards": OFF, "copying": UNGUARDED}


BEFORE_ANSWERS: dict[str, Any] = {
    "context": ContextConfig(controls=False),
    "guards": GuardConfig(),
    "copying": UNGUARDED,
}
"""What the presets `hardened-1` keep: end token priced, no label, long copied runs priced as they stood before."""

Config = TypeVar("Config", bound=FinalLikelihoodConfig)


@dataclass(frozen=True)
class ReferenceLikelihoods:
    """One group's prices, per reference token."""

    finals: tuple[Logprobs, ...]
    """After each trajectory's closed thought."""
    empty: Logprobs
    """After an empty thought."""
    valid: NDArray[np.bool_]
    """Closed think block and an answer."""
    thought_tokens: NDArray[np.int64]
    answer_tokens: NDArray[np.int64]

    @property
    def sums(self) -> Logprobs:
        """Log-prob of the whole reference, in nats."""
        return np.array([final.sum() for final in self.finals])

    @property
    def means(self) -> Logprobs:
        """Log-prob per reference token, in nats."""
        return np.array([final.mean() for final in self.finals])


@dataclass(frozen=True)
class ShapedValue:
    """What one trajectory is worth."""

    reward: float
    components: dict[str, float]
    flags: tuple[str, ...] = ()


class FinalLikelihoodReward(Reward[Config, ReferencePlan]):
    """Base of rewards that look at one final price per trajectory."""

    with_steps: ClassVar[bool] = False
    """Also price the reference after every segment, to report gains."""

    @abstractmethod
    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Return what the trajectories are worth, in order."""

    def diagnostics(self, priced: ReferenceLikelihoods) -> dict[str, float]:  # noqa: ARG002
        """Return numbers of the group as a whole."""
        return {}

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> ReferencePlan:
        """Price the end of every thought, and an empty one."""
        return plan_reference(group, tree, self.config.guards, steps=self.with_steps and group.explained)

    def read(self, group: EncodedGroup, plan: ReferencePlan, scores: TreeScores) -> GroupOutcome:
        """Turn prices into outcomes."""
        empty = read(scores, plan.initial)
        valid = np.array([not malformed(one) for one in group.trajectories])
        guard = CopyGuard(group.reference, group.prompt, self.config.copying)
        copies = np.array([guard.copied(one.scored_text) for one in group.trajectories])
        finals = [read(scores, query) for query in plan.finals]
        priced = ReferenceLikelihoods(
            finals=tuple(_as_the_best_honest(finals, copies, valid, empty)),
            empty=empty,
            valid=valid,
            thought_tokens=np.array([_thought_tokens(one, group) for one in group.trajectories]),
            answer_tokens=np.array([len(one.plain_answer) for one in group.trajectories]),
        )
        outcomes: list[Outcome] = []
        for index, value in enumerate(self.shaped_values(priced)):
            trajectory = group.trajectories[index]
            copied = plan.stops[index] < len(trajectory.segments) or bool(copies[index])
            gated = self.config.guards.format_gate and not priced.valid[index]
            flags = (*trajectory.flags, *value.flags)
            flags += (("reference_copy",) if copied else ()) + (("format_gate",) if gated else ())
            outcomes.append(
                Outcome(
                    reward=value.reward,
                    components=value.components,
                    token_logprobs=priced.finals[index],
                    segments=self._segments(plan, scores, index),
                    flags=flags,
                )
            )
        if not valid.any() and self.config.guards.format_gate:
            outcomes = [replace(one, flags=(*one.flags, "uninformative")) for one in outcomes]
        return GroupOutcome(tuple(outcomes), priced.empty, self.diagnostics(priced))

    def _segments(self, plan: ReferencePlan, scores: TreeScores, index: int) -> tuple[SegmentOutcome, ...]:
        if not plan.steps:
            return ()
        steps = [read(scores, query) for query in plan.steps[index]]
        means = [float(step.mean()) for step in steps]
        return tuple(
            SegmentOutcome(
                mean_logprob=means[at + 1],
                gain=means[at + 1] - means[at],
                credited=at < plan.stops[index] and means[at + 1] > means[at],
                token_logprobs=steps[at + 1],
            )
            for at in range(len(steps) - 1)
        )


def _thought_tokens(trajectory: EncodedTrajectory, group: EncodedGroup) -> int:
    """Return how many tokens the policy wrote up to the end of its last thought."""
    return len(trajectory.contexts[-1]) - len(group.initial) - trajectory.environment_tokens


def _as_the_best_honest(
    finals: list[Logprobs], copies: NDArray[np.bool_], valid: NDArray[np.bool_], empty: Logprobs
) -> list[Logprobs]:
    """Return the log-probs to read: a copy's are at most those of the best honest member, or of no thought."""
    honest = [final for final, copy, good in zip(finals, copies, valid, strict=True) if good and not copy]
    best = max([empty, *honest], key=np.sum)
    return [min(final, best, key=np.sum) if copy else final for final, copy in zip(finals, copies, strict=True)]
