"""Several references are alternative wordings of one answer: a reward by each, on one tree, then combined.

Knows no reward by name. Every combination keeps the scale of a reward by one reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opera_service.rewards.around import AroundReward
from opera_service.rewards.base import ByReference, GroupOutcome, Outcome, SegmentOutcome, StepOutcome
from opera_service.rewards.config import Combination
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup

Values = NDArray[np.float64]


def logmeanexp(values: Values) -> float:
    """Return log(mean(exp(values))): between mean and maximum, near the maximum when that stands out."""
    top = float(values.max())
    return top + float(np.log(np.exp(values - top).mean()))


_SHAPES: Mapping[Combination, Callable[[Values], float]] = {
    "mean": lambda values: float(values.mean()),
    "max": lambda values: float(values.max()),
    "min": lambda values: float(values.min()),
    "logmeanexp": logmeanexp,
}


class OverReferences(AroundReward[tuple[Any, ...]]):
    """Any reward, computed by every reference of a group and combined as its configuration says."""

    name = "over references"
    summary = "Another reward by each of several references."
    source = "ours"

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> tuple[Any, ...]:
        """Plan the reward once a reference; what the plans share is on the tree once."""
        return tuple(self._reward.plan(one, tree) for one in by_reference(group))

    def read(self, group: EncodedGroup, plan: tuple[Any, ...], scores: TreeScores) -> GroupOutcome:
        """Combine the outcomes; token log-probs and the segments' credit are those of the first reference."""
        found = [self._reward.read(one, part, scores) for one, part in zip(by_reference(group), plan, strict=True)]
        shape = _SHAPES[self.config.references]
        return GroupOutcome(
            trajectories=tuple(
                _combined([one.trajectories[at] for one in found], shape) for at in range(len(group.trajectories))
            ),
            initial_logprobs=found[0].initial_logprobs,
            diagnostics=_means([one.diagnostics for one in found]),
        )


def by_reference(group: EncodedGroup) -> list[EncodedGroup]:
    """Return the group once a reference, each as if it were the only one."""
    others = [
        replace(group, reference=text, reference_ids=ids, alternatives=()) for text, ids in group.alternatives
    ]
    return [replace(group, alternatives=()), *others]


def _combined(outcomes: Sequence[Outcome], shape: Callable[[Values], float]) -> Outcome:
    def over(read: Callable[[Outcome], float]) -> float:
        return shape(np.array([read(one) for one in outcomes], dtype=np.float64))

    first = outcomes[0]
    segments = tuple(
        SegmentOutcome(
            over(lambda one, at=at: one.segments[at].mean_logprob),  # type: ignore[misc]
            over(lambda one, at=at: one.segments[at].gain),  # type: ignore[misc]
            segment.credited,
            segment.token_logprobs,
        )
        for at, segment in enumerate(first.segments)
    )
    reward = over(lambda one: one.reward)
    return replace(
        first,
        reward=reward,
        components={name: over(lambda one, name=name: one.components[name]) for name in first.components},  # type: ignore[misc]
        segments=segments,
        steps=_steps([one.steps for one in outcomes], shape, reward),
        flags=tuple(dict.fromkeys(flag for one in outcomes for flag in one.flags)),
        by_reference=tuple(ByReference(one.reward, one.token_logprobs) for one in outcomes),
    )


def _steps(
    by_reference: Sequence[Sequence[StepOutcome]], shape: Callable[[Values], float], reward: float
) -> tuple[StepOutcome, ...]:
    """Return the steps by all references; the last one gets what the others leave of `reward`."""
    found: list[StepOutcome] = []
    for steps in zip(*by_reference, strict=True):
        mean, gain, own = (
            shape(np.array([getattr(one, name) for one in steps], dtype=np.float64))
            for name in ("mean_logprob", "gain", "reward")
        )
        found.append(StepOutcome(mean, gain, own))
    if found:
        found[-1] = replace(found[-1], reward=reward - sum(one.reward for one in found[:-1]))
    return tuple(found)


def _means(all_of_them: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in all_of_them])) for name in all_of_them[0]}
