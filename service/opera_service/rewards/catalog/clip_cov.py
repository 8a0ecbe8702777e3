"""Clip-Cov: a few of the tokens that drive the policy's entropy down learn nothing."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.outcome_advantages import OutcomeConfig, advantages, outcomes, told_if_alone
from opera_service.rewards.policy_tokens import NO_GUARDS, Member, PolicyReward, mean_over, outcome_of, outcomes_of
from opera_service.trajectories.encoded import EncodedGroup


class ClipCovConfig(OutcomeConfig):
    """Choices of `clip_cov`."""

    share: float = Field(
        2e-4, gt=0, le=1, description="Share of the group's tokens that learn nothing; at least one."
    )
    low: float = Field(1.0, ge=0, description="Only tokens with a larger covariance are among them.")
    high: float = Field(5.0, gt=0, description="And with a smaller one.")
    choose: Literal["random", "largest"] = Field(
        "largest",
        description="Which of them, where there are more: by a draw that depends on the responses' ids alone, or "
        "those with the largest covariance.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> ClipCovConfig:
        if self.low >= self.high:
            raise ValueError("`low` must be below `high`")
        return self


class ClipCov(PolicyReward[ClipCovConfig]):
    """Token weights; it pays nothing by itself, so put it into a sum."""

    name = "clip_cov"
    summary = "Shapes tokens, pays 0: weight 0 for a few tokens whose log-prob and advantage covary most."
    source = "Clip-Cov, arXiv 2505.22617, and its released code"
    needs = ("group", "outcome")
    equation = "w_t = 0 for share · N of the tokens with low < (A_t - mean A)(log p_t - mean log p) < high, else 1"
    unsettled = (
        "Means, share and draw are over a training batch in the released code; here over the group, so that a "
        "small group has at least one such token where any is in range.",
        "A is the group-relative advantage of right and wrong, before any other shaping.",
    )
    components = ("outcome", "covariance", "clipped")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": ClipCovConfig(),
        "paper": ClipCovConfig(guards=NO_GUARDS, choose="random"),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:
        """Choose among all tokens of the group."""
        members = told_if_alone(members)
        right = outcomes(group, members, self.name)
        written = [one.numbers.written for one in members]
        tokens = np.concatenate([np.full(int(own.sum()), at) for at, own in enumerate(written)])
        logprobs = np.concatenate([one.numbers.logprobs[own] for one, own in zip(members, written, strict=True)])
        scaled = advantages(right)[tokens]
        covariances = (scaled - scaled.mean()) * (logprobs - logprobs.mean())
        weights = np.ones(len(tokens))
        weights[self._chosen(covariances, members)] = 0.0
        found = []
        for at, (one, own) in enumerate(zip(members, written, strict=True)):
            shaped = np.zeros(len(own))
            shaped[own] = weights[tokens == at]
            components = {
                "outcome": float(right[at]),
                "covariance": float(covariances[tokens == at].mean()),
                "clipped": 1 - mean_over(shaped, own),
            }
            found.append(outcome_of(one, 0.0, components, token_weights=shaped))
        return outcomes_of(found)

    def _chosen(self, covariances: NDArray[np.float64], members: list[Member]) -> NDArray[np.int64]:
        """Return the places of the tokens that learn nothing."""
        config = self.config
        within = np.flatnonzero((covariances > config.low) & (covariances < config.high))
        count = min(len(within), max(int(config.share * len(covariances)), 1))
        if config.choose == "largest":
            return within[np.argsort(-covariances[within], kind="stable")[:count]]
        digest = hashlib.sha256(b"".join(one.numbers.tokens.ids.tobytes() for one in members)).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(within)[:count]
