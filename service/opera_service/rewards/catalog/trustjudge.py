"""TrustJudge's distribution-sensitive score: the expectation of a rating instead of the likeliest one."""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from opera_service.rewards.judge_labels import JudgeConfig, JudgeReward, Labels
from opera_service.trajectories.judge_prompts import SINGLE, JudgeRules

RATINGS = JudgeRules(form="single", instruction=SINGLE, lead="Rating:\n", labels=("1", "2", "3", "4", "5"))


class TrustJudgeConfig(JudgeConfig):
    """Choices of `trustjudge`."""

    judging: JudgeRules = RATINGS
    temperature: float | None = Field(
        None, gt=0, description="Weights are softmax(logit(p) / this), 0.2 as released; null: p, normalised."
    )

    @model_validator(mode="after")
    def _one_at_a_time(self) -> TrustJudgeConfig:
        if self.judging.form != "single" or self.judging.opponents is not None:
            raise ValueError("judging.form must be `single`: ratings are given one at a time")
        return self


class TrustJudge(JudgeReward[TrustJudgeConfig]):
    """Expected rating, from 0 for the first label to 1 for the last."""

    name = "trustjudge"
    summary = "The rating that the model itself gives an answer, as an expectation over the rating tokens."
    source = "TrustJudge, and its released code: distribution-sensitive scoring"
    needs = ()
    equation = "r_i = Σ_s w_s (s - 1) / (S - 1), w = softmax(logit(p_s) / 0.2), or p_s / Σ p"
    unsettled = (
        "Ratings from 1 to 5 and the judge's prompt are ours; the score is scaled to 0 … 1.",
        "p is the token's probability among all tokens.",
    )
    components = ("rating", "entropy", "said")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": TrustJudgeConfig(),
        "paper": TrustJudgeConfig(temperature=0.2, format_gate=False),
    }

    def value(self, member: str, labels: Labels) -> tuple[float, dict[str, float], tuple[str, ...]]:
        """Return the expectation; `said` is the probability that the judge says a rating at all."""
        logprobs = labels[(member,)]
        chances = np.exp(logprobs)
        if self.config.temperature is None:
            scaled = logprobs
        else:
            scaled = np.log((chances + _TINY) / (1 - chances + _TINY)) / self.config.temperature
        weights = np.exp(scaled - np.logaddexp.reduce(scaled))
        places = np.arange(len(weights)) / (len(weights) - 1)
        rating = float((weights * places).sum())
        entropy = float(-(weights * np.log(np.maximum(weights, np.finfo(np.float64).tiny))).sum())
        return rating, {"rating": rating, "entropy": entropy, "said": float(chances.sum())}, ()


_TINY = 1e-8
"""Of the released code."""
