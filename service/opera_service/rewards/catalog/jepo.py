"""JEPO: what a thought adds to the group's joint bound on the reference's log-likelihood."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from opera_service.rewards.final_likelihood import (
    BEFORE_ANSWERS,
    FinalLikelihoodConfig,
    FinalLikelihoodReward,
    ReferenceLikelihoods,
    ShapedValue,
    as_published,
)
from opera_service.rewards.ranks import auto_temperature
from opera_service.rewards.reference_logprobs import Logprobs


class JepoConfig(FinalLikelihoodConfig):
    """Choices of `jepo`."""

    temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="P = exp(sum of log-probs / temperature); 1 as published; `auto`: max(1, sqrt(|G| / 8)).",
    )
    clip: float | None = Field(
        5.0, gt=0, description="Largest signal in nats: the only good one of a group would get hundreds."
    )

    @model_validator(mode="after")
    def _bounded(self) -> JepoConfig:
        if self.guards.format_gate and self.clip is None:
            raise ValueError("guards.format_gate takes P = 0 for malformed trajectories and needs a clip")
        return self


class Jepo(FinalLikelihoodReward[JepoConfig]):
    """Leave-one-out contribution to log mean P."""

    name = "jepo"
    summary = "What a thought adds to the log of the group's mean likelihood of the reference."
    source = "JEPO, arXiv 2503.19618: multi-sample Jensen bound, leave-one-out signal (no released code)"
    needs = ("reference", "group")
    equation = "log (1/n) Σ_j P_j - log (1/(n-1)) Σ_{j≠i} P_j, P = exp Σ_t log p(g_t | thought)"
    unsettled = ("There is no released code; the per-sample signal follows a secondary description.",)
    components = ("contribution", "logprob", "bound")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": JepoConfig(),
        "hardened-1": JepoConfig(**BEFORE_ANSWERS),
        "paper": JepoConfig(**as_published("</think>\n\n"), temperature=1, clip=None),
    }

    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Return log mean P - log mean of the others' P; 0 for a group of one."""
        tokens = len(priced.empty)
        chosen = self.config.temperature
        scaled = priced.sums / (auto_temperature(tokens) if chosen == "auto" else chosen)
        if self.config.guards.format_gate:
            scaled = np.where(priced.valid, scaled, -np.inf)
        signals = leave_one_out(scaled)
        if self.config.clip is not None:
            signals = np.clip(signals, -self.config.clip, self.config.clip)
        bound = float(np.logaddexp.reduce(priced.sums) - np.log(len(scaled)))
        return [
            ShapedValue(float(signal), {"contribution": float(signal), "logprob": float(total), "bound": bound})
            for signal, total in zip(signals, priced.sums, strict=True)
        ]


def leave_one_out(logs: Logprobs) -> Logprobs:
    """Return log((1/n) sum P) - log((1/(n-1)) sum of the other P) from log P; zeros without another P > 0.

    A P of 0 (log -inf) gives log((n-1)/n), the least there is; the only P above 0 gives +inf.
    """
    count = len(logs)
    if count == 1 or np.isneginf(logs).all():
        return np.zeros(count)
    whole = float(np.logaddexp.reduce(logs)) - np.log(count)
    others = np.array([np.logaddexp.reduce(np.delete(logs, index)) for index in range(count)])
    return np.asarray(whole - (others - np.log(count - 1)))
