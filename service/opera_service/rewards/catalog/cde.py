"""CDE: right or wrong, and a bonus for responses that the policy finds surprising itself."""

from __future__ import annotations

from pydantic import Field

from opera_service.rewards.base import GroupOutcome
from opera_service.rewards.outcome_advantages import OutcomeConfig, outcomes
from opera_service.rewards.policy_tokens import NO_GUARDS, Member, PolicyReward, mean_over, outcome_of, outcomes_of
from opera_service.trajectories.encoded import EncodedGroup


class CdeConfig(OutcomeConfig):
    """Choices of `cde`."""

    right: float = Field(1.0, description="Reward of a right answer before the bonus.")
    wrong: float = Field(-1.0, description="That of a wrong answer, and all that the guards leave.")
    weight: float = Field(
        1.0, ge=0, le=1, description="ω: falls during training in the paper; send less in later steps."
    )
    alpha: float = Field(0.5, ge=0, description="α: what one nat a token of surprise is worth.")
    most: float = Field(0.5, ge=0, lt=1, description="κ: the bonus is at most this share of the reward's size.")


class Cde(PolicyReward[CdeConfig]):
    """Outcome plus a clipped bonus for the response's own perplexity."""

    name = "cde"
    summary = "Right or wrong, plus a bonus for responses of high perplexity: overconfident errors are the worst."
    source = "CDE, arXiv 2509.09675: the actor's bonus (formula from secondary notes)"
    needs = ("outcome",)
    equation = "r + ω min(κ |r|, -(α/T) Σ_t log p(y_t)), r = 1 or -1"
    unsettled = (
        "α, κ and the schedule of ω were not found; 0.5, 0.5 and a constant 1 are assumed.",
        "Whether the bonus is the perplexity or its logarithm differs between notes; the logarithm is taken.",
        "The critic's bonus (variance of value heads) needs a critic, which a scoring service has not.",
    )
    components = ("outcome", "surprise", "bonus")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": CdeConfig(),
        "paper": CdeConfig(guards=NO_GUARDS),
    }

    def rewarded(self, group: EncodedGroup, members: list[Member]) -> GroupOutcome:
        """Price every member for itself."""
        config, found = self.config, []
        for one, outcome in zip(members, outcomes(group, members, self.name), strict=True):
            base = config.right if outcome else config.wrong
            surprise = -mean_over(one.numbers.logprobs, one.numbers.written)
            bonus = config.weight * min(config.most * abs(base), config.alpha * surprise) if one.valid else 0.0
            components = {"outcome": float(outcome), "surprise": surprise, "bonus": bonus}
            found.append(outcome_of(one, base + bonus, components))
        return outcomes_of(found)
