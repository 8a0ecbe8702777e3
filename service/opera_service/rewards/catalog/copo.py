"""COPO: where a group agrees, its members say little about each other, and the prompt as a whole counts."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from opera_service.rewards.answer_counts import CountConfig, Counts
from opera_service.rewards.base import GroupOutcome, Outcome, Reward
from opera_service.rewards.policy_tokens import NO_REFERENCE, policy_of
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup


class CopoConfig(CountConfig):
    """Choices of `copo`."""

    gamma: float = Field(
        20.0, gt=0, description="γ: how sharply the weight turns from the global to the local side."
    )
    rho: float = Field(
        1.5, ge=0, description="ρ, nats: entropy of the answers at which both sides weigh the same."
    )
    relative: bool = Field(
        False, description="ρ is a share of ln G, the largest entropy, in place of nats; so is the entropy."
    )


class Copo(Reward[CopoConfig, None]):
    """One token weight a group; it pays nothing by itself, so put it into a sum."""

    name = "copo"
    summary = "Shapes tokens, pays 0: a group whose answers agree counts little by its own advantages."
    source = "COPO, arXiv 2508.04138 (formula from secondary notes)"
    needs = ("group",)
    equation = "w = sigmoid(γ (H - ρ)), H = -Σ p ln p over the answers; A = w A_local + (1 - w) A_global"
    unsettled = (
        "A_global, the prompt's mean reward normalised over the mini-batch, needs the batch: it is the trainer's, "
        "who finds 1 - w as the component `global_weight`.",
        "ρ = 1.5 nats is out of reach for four answers; `hardened` takes ρ as half of ln G.",
    )
    components = ("weight", "global_weight", "entropy", "share")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": CopoConfig(rho=0.5, relative=True),
        "paper": CopoConfig(),
    }

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> None:
        """Put nothing on the tree."""

    def read(self, group: EncodedGroup, plan: None, scores: TreeScores) -> GroupOutcome:  # noqa: ARG002
        """Return the group's weight for every token that the policy wrote; a lone member is its whole group."""
        counts, config = Counts(group.classes), self.config
        entropy = counts.entropy
        alone = counts.size < 2
        level = entropy / np.log(counts.size) if config.relative and not alone else entropy
        weight = 1.0 if alone else float(0.5 * (1 + np.tanh(config.gamma * (level - config.rho) / 2)))
        outcomes = []
        for one, share in zip(group.trajectories, counts.shares, strict=True):
            tokens = policy_of(one)
            weights = np.zeros(len(tokens.ids))
            for start, end in tokens.written:
                weights[start:end] = weight
            components = {
                "weight": weight, "global_weight": 1 - weight, "entropy": entropy, "share": float(share),
            }  # fmt: skip
            flags = (*one.flags, "uninformative") if alone else one.flags
            outcomes.append(Outcome(0.0, components, NO_REFERENCE, flags=flags, token_weights=weights))
        return GroupOutcome(tuple(outcomes), NO_REFERENCE, {"answers": float(counts.distinct)})
