"""RENT and its relatives: the policy's own certainty as the only reward."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.policy_tokens import (
    NO_GUARDS,
    Member,
    PolicyConfig,
    PolicyNumbers,
    PolicyReward,
    mean_over,
    outcome_of,
    outcomes_of,
)
from opera_service.trajectories.encoded import EncodedGroup


class RentConfig(PolicyConfig):
    """Choices of `rent`."""

    measure: Literal["entropy", "logprob"] = Field(
        "entropy",
        description="Minus the entropy that a token was drawn from (RENT), or the log-prob of the token (EM-RL).",
    )
    reduction: Literal["mean", "sum"] = Field("mean", description="Over tokens. A sum pays short responses.")
    part: Literal["response", "thought", "answer"] = Field(
        "response", description="Which tokens; the end of a turn belongs to the response alone."
    )
    invalid: float = Field(-10.0, description="Reward of what the guards do not pay.")


class Rent(PolicyReward[RentConfig]):
    """Minus the mean entropy of a response's tokens."""

    name = "rent"
    summary = "The policy's own certainty: minus the mean entropy of its tokens, or their log-prob."
    source = "RENT, arXiv 2505.22660; EM-RL, arXiv 2505.15134, with `measure: logprob` and `reduction: sum`"
    needs = ("entropy",)
    equation = "-(1/T) Σ_t H_t; with measure logprob (1/T) Σ_t log p(y_t | y_<t)"
    components = ("entropy", "logprob", "tokens")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": RentConfig(),
        "paper": RentConfig(guards=NO_GUARDS),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:  # noqa: ARG002
        """Price every member for itself; a part without tokens has no uncertainty, and is not valid."""
        found = []
        for one in members:
            where = self._where(one.numbers)
            entropy, logprob = (mean_over(v, where) for v in (one.numbers.entropies, one.numbers.logprobs))
            certainty = logprob if self.config.measure == "logprob" else -entropy
            if self.config.reduction == "sum":
                certainty *= int(where.sum())
            paid = one.valid and bool(where.any())
            components = {"entropy": entropy, "logprob": logprob, "tokens": float(where.sum())}
            found.append(outcome_of(one, certainty if paid else self.config.invalid, components))
        return outcomes_of(found)

    def _where(self, numbers: PolicyNumbers) -> NDArray[np.bool_]:
        if self.config.part == "response":
            return numbers.written
        tokens = numbers.tokens
        return numbers.inside(tokens.thoughts if self.config.part == "thought" else tokens.answers)
