"""SEED-GRPO: prompts that the policy answers in many ways are learned from more slowly."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.answer_counts import CountConfig, Counts
from opera_service.rewards.base import GroupOutcome, Outcome, Reward
from opera_service.rewards.policy_tokens import (
    NO_REFERENCE,
    Queries,
    plan_policy,
    policy_of,
    read_policy,
)
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup


class SeedGrpoConfig(CountConfig):
    """Choices of `seed_grpo`."""

    alpha: float = Field(1.0, ge=0, description="Share of the advantage that the largest entropy takes away.")
    mass: Literal["counts", "likelihood"] = Field(
        "counts",
        description="What a class of answers weighs: how often it was given, or the sum of its responses' "
        "likelihoods, which hardly depends on any but the shortest.",
    )


class SeedGrpo(Reward[SeedGrpoConfig, Queries]):
    """One token weight a group; it pays nothing by itself, so put it into a sum."""

    name = "seed_grpo"
    summary = "Shapes tokens, pays 0: a group's advantages shrink with the semantic entropy of its answers."
    source = "SEED-GRPO, arXiv 2505.12346 (formula from a review of the paper)"
    needs = ("group",)
    equation = "w = max(0, 1 - α SE / ln G), SE = -(1/K) Σ_k log p(class k)"
    unsettled = (
        "f is linear, exponential or focal in the paper; the linear form and α = 1 are assumed.",
        "Likelihoods of the classes are normalised over the group, as ln G is the largest entropy only then.",
    )
    components = ("weight", "entropy", "share")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": SeedGrpoConfig(),
        "paper": SeedGrpoConfig(mass="likelihood"),
    }

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> Queries:
        """Ask for the policy's log-probs where classes weigh by likelihood."""
        return plan_policy(group, tree, entropy=False) if self.config.mass == "likelihood" else ()

    def read(self, group: EncodedGroup, plan: Queries, scores: TreeScores) -> GroupOutcome:
        """Return the group's weight for every token that the policy wrote."""
        counts = Counts(group.classes)
        masses = np.full(counts.size, 1 / counts.size)
        if plan:
            totals = [
                float(np.nansum(read_policy(one, queries, scores, entropy=False).logprobs))
                for one, queries in zip(group.trajectories, plan, strict=True)
            ]
            masses = np.exp(totals - np.logaddexp.reduce(totals))
        entropy = semantic_entropy(group.classes, masses)
        weight = max(0.0, 1 - self.config.alpha * entropy / np.log(counts.size)) if counts.size > 1 else 1.0
        outcomes = []
        for one, share in zip(group.trajectories, counts.shares, strict=True):
            tokens = policy_of(one)
            weights = np.zeros(len(tokens.ids))
            for start, end in tokens.written:
                weights[start:end] = weight
            components = {"weight": weight, "entropy": entropy, "share": float(share)}
            flags = one.flags if counts.size > 1 else (*one.flags, "uninformative")
            outcomes.append(Outcome(0.0, components, NO_REFERENCE, flags=flags, token_weights=weights))
        return GroupOutcome(tuple(outcomes), NO_REFERENCE, {"answers": float(counts.distinct)})


def semantic_entropy(classes: tuple[int | None, ...], masses: NDArray[np.float64]) -> float:
    """Return -(1/K) Σ_k log p(class k); who has no answer is a class alone. At least 0, ln G for equal masses."""
    totals: dict[object, float] = {}
    for at, (one, mass) in enumerate(zip(classes, masses, strict=True)):
        key: object = ("none", at) if one is None else one
        totals[key] = totals.get(key, 0.0) + float(mass)
    least = np.finfo(np.float64).tiny
    return max(0.0, -float(np.mean([np.log(max(mass, least)) for mass in totals.values()])))
