"""CEPO: a token counts by how much the right answer, and not a wrong one, makes it likely."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import Field

from opera_service.rewards.base import GroupOutcome, Reward
from opera_service.rewards.outcome_advantages import OutcomeConfig, advantages, outcomes, told_if_alone
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    mean_over,
    member_of,
    outcome_of,
    outcomes_of,
    plan_behind,
    policy_of,
    read_policy,
)
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import Ids, TreeBuilder
from opera_service.trajectories.encoded import EncodedGroup
from opera_service.trajectories.encoding_config import ContextConfig


class CepoConfig(OutcomeConfig):
    """Choices of `cepo`."""

    context: ContextConfig = ContextConfig(controls=False, score_end=False)
    mix: float = Field(
        1.0, ge=0, le=1, description="λ: how much of the weight is the evidence's; send less in later steps."
    )
    band: float = Field(0.2, ge=0, lt=1, description="Evidence weighs a token by at most so much more or less.")
    evidence_tokens: int = Field(
        16, ge=1, description="Tokens of a wrong answer that stand for it, from its start."
    )
    own: bool = Field(
        False,
        description="A wrong member may be contrasted with its own answer; else with another's, or not at all.",
    )


class CepoPlan(NamedTuple):
    """Queries of one member, behind both kinds of evidence."""

    right: tuple[int, ...]
    wrong: tuple[int, ...] | None
    """None where nothing wrong is at hand."""


class Cepo(Reward[CepoConfig, tuple[CepoPlan, ...]]):
    """Token weights; it pays nothing by itself, so put it into a sum with what says right and wrong."""

    name = "cepo"
    summary = "Shapes tokens, pays 0: more weight for what the right answer makes likely and a wrong one does not."
    source = "CEPO, released code (ahmedheakl/CEPO)"
    needs = ("group", "outcome")
    equation = (
        "w_t = 1 - λ + λ clip(exp(sign(A) δ_t), 0.8, 1.2), δ_t = log p(y_t | q, right) - log p(y_t | q, wrong)"
    )
    unsettled = (
        "The released code puts the wrong answer's box behind the prompt, else its first 50 characters; here the "
        "answer's first tokens, boxed or not.",
        "λ falls from 1 to 0 over 100 steps there; here it is `mix`, since no step is known.",
        "A is the group-relative advantage of right and wrong.",
    )
    components = ("outcome", "evidence", "weight")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": CepoConfig(),
        "paper": CepoConfig(guards=NO_GUARDS, own=True),
    }

    def plan(self, group: EncodedGroup, tree: TreeBuilder) -> tuple[CepoPlan, ...]:
        """Ask for every response behind the reference, and behind the first wrong answer of the group."""
        found = []
        for at, one in enumerate(group.trajectories):
            tokens, wrong = policy_of(one), self._wrong(group, at)
            behind = None
            if wrong is not None:
                behind = plan_behind(tokens, np.concatenate([tokens.context, wrong]), tree)
            right = plan_behind(tokens, np.concatenate([tokens.context, group.reference_ids]), tree)
            found.append(CepoPlan(right, behind))
        return tuple(found)

    def read(self, group: EncodedGroup, plan: tuple[CepoPlan, ...], scores: TreeScores) -> GroupOutcome:
        """Weigh every token; 1 for all where the group's outcomes are alike, or nothing wrong is at hand."""
        numbers = [read_policy(one, own.right, scores, entropy=False) for one, own in
                   zip(group.trajectories, plan, strict=True)]  # fmt: skip
        members = told_if_alone(
            [member_of(self.config.guards, one, own) for one, own in zip(group.trajectories, numbers, strict=True)]
        )
        right = outcomes(group, members, self.name)
        found = []
        for one, own, outcome, advantage in zip(members, plan, right, advantages(right), strict=True):
            written = one.numbers.written
            evidence = np.zeros(len(written))
            if own.wrong is not None:
                against = read_policy(one.trajectory, own.wrong, scores, entropy=False).logprobs
                evidence = np.nan_to_num(one.numbers.logprobs - against)
            weight = np.exp(np.sign(advantage) * np.clip(evidence, -20.0, 20.0))
            clipped = np.clip(weight, 1 - self.config.band, 1 + self.config.band)
            weights = np.where(written, 1 - self.config.mix + self.config.mix * clipped, 0.0)
            components = {
                "outcome": float(outcome),
                "evidence": mean_over(evidence, written),
                "weight": mean_over(weights, written),
            }
            found.append(outcome_of(one, 0.0, components, token_weights=weights))
        return outcomes_of(found)

    def _wrong(self, group: EncodedGroup, at: int) -> Ids | None:
        """Return the start of the first wrong answer of the group that may be held against member `at`."""
        for place, one in enumerate(group.trajectories):
            if one.outcome is False and len(one.plain_answer) and (self.config.own or place != at):
                return one.plain_answer[: self.config.evidence_tokens]
        return None
