"""DRO's R3: the reference's tokens weigh as much as the group's thoughts disagree about them.

Most tokens of a long reference are as likely after any thought. Those that are not say what a thought is worth,
and a plain sum drowns them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from opera_service.rewards.final_likelihood import (
    FinalLikelihoodConfig,
    FinalLikelihoodReward,
    ReferenceLikelihoods,
    ShapedValue,
    as_published,
)
from opera_service.rewards.reference_logprobs import Logprobs

EQUAL = 1e-9
"""Nats. Log-probs of a token that lie closer together are equal."""


class DroConfig(FinalLikelihoodConfig):
    """Choices of `dro`."""

    correction: Literal["masked", "propagation", "none"] = Field(
        "masked",
        description="Against references that make up for a bad thought: subtract the log-prob after an empty "
        "thought, or let the doubt about a reflective token last for a while, or neither.",
    )
    reflective_share: float = Field(
        0.1, gt=0, le=1, description="Share of the tokens, by spread, whose doubt propagates."
    )
    decay: float = Field(0.5, gt=0, description="γ: how fast a token's doubt is forgotten, per token.")
    length: float = Field(
        0.0, ge=0, description="Weight of the length term, 1 - β | |answer| - |reference| | / |reference|."
    )
    length_penalty: float = Field(1.0, ge=0, description="β of the length term.")
    clip: float | None = Field(
        10.0, gt=0, description="A token counts for at most so many nats, either way; null: as published."
    )
    margin: float = Field(
        0.0, ge=0, description="Nats. A group in which no token spreads more says nothing: all get the mean."
    )
    invalid: float = Field(-10.0, le=0, description="Reward of a trajectory that fails the format gate.")


class Dro(FinalLikelihoodReward[DroConfig]):
    """Σ_j w(σ_j) · (log-prob after the thought - log-prob after an empty one)."""

    name = "dro"
    summary = "Log-prob gain of the reference, its tokens weighed by how much the group's thoughts disagree."
    source = "DRO, arXiv 2506.13351 v1, section 4.1.3 (R3) and 4.2 (length term, filter)"
    needs = ("reference", "group")
    equation = "Σ_j w_j [log p(g_j | thought) - log p(g_j | empty thought)], w_j = σ_j / Σ σ, σ_j over the group"
    unsettled = (
        "w is any function that grows with σ in the paper; σ_j / Σ σ is assumed (equal weights if all are 0).",
        "The masked thought is an empty one here.",
        "γ, which tokens propagate, β and the weight of the length term are not given.",
        "The filter of prompts by max σ is the trainer's; `diagnostics.max_sigma` has the number.",
    )
    components = ("gain", "length", "logprob")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": DroConfig(margin=0.05),
        "paper": DroConfig(**as_published("</think>\n\n"), clip=None, length=0.1),
    }

    def shaped_values(self, priced: ReferenceLikelihoods) -> list[ShapedValue]:
        """Weigh the tokens over the members that pass the gate; malformed ones set no weight."""
        config = self.config
        sigma = self._spread(priced)
        gains = np.array([self._gain(final, priced.empty, sigma) for final in priced.finals])
        gate, valid = config.guards.format_gate, priced.valid
        honest = valid if gate and valid.any() else np.ones(len(gains), dtype=np.bool_)
        silent = len(gains) > 1 and float(sigma.max()) < config.margin
        paid = np.where(honest, gains[honest].mean(), gains) if silent else gains
        found: list[ShapedValue] = []
        for at, final in enumerate(priced.finals):
            off = abs(len(final) - int(priced.answer_tokens[at])) / len(final)
            length = 1 - config.length_penalty * off
            reward = float(paid[at]) + config.length * length
            if gate and not valid[at]:
                reward = config.invalid
            parts = {"gain": float(gains[at]), "length": length, "logprob": float(final.mean())}
            found.append(ShapedValue(reward, parts, ("no_spread",) if silent else ()))
        return found

    def diagnostics(self, priced: ReferenceLikelihoods) -> dict[str, float]:
        """Return the largest spread of a token: the paper trains on the prompts that have the most."""
        return {"max_sigma": float(self._spread(priced).max())}

    def _spread(self, priced: ReferenceLikelihoods) -> Logprobs:
        """Return the standard deviation over the group of every reference token's log-prob, in nats."""
        table = np.stack(priced.finals)
        if self.config.guards.format_gate and priced.valid.any():
            table = table[priced.valid]
        # Equal numbers have a deviation of 1e-16 or of 0, as their mean is rounded: no weight may come of that.
        return np.where(np.ptp(table, axis=0) > EQUAL, table.std(axis=0), 0.0)

    def _gain(self, final: Logprobs, empty: Logprobs, sigma: Logprobs) -> float:
        config = self.config
        weights = sigma / sigma.sum() if sigma.sum() > 0 else np.full(len(sigma), 1 / len(sigma))
        if config.correction == "masked":
            values = final - empty
        elif config.correction == "propagation":
            values = final + propagated(final, reflective(sigma, config.reflective_share), config.decay)
        else:
            values = final
        if config.clip is not None:
            values = np.clip(values, -config.clip, config.clip)
        return float((weights * values).sum())


def reflective(sigma: Logprobs, share: float) -> NDArray[np.int64]:
    """Return the tokens with the most spread, ascending: `share` of all, at least one, none without any spread."""
    count = max(1, round(share * len(sigma)))
    most = np.sort(np.argsort(-sigma, kind="stable")[:count])
    return np.asarray(most[sigma[most] > 0])


def propagated(logprobs: Logprobs, tokens: NDArray[np.int64], decay: float) -> Logprobs:
    """Return log Π_{k<j} P_k(j) for every token j, with P_k(j) = p_k + (1 - p_k)(1 - exp(-γ (j - k)))."""
    found = np.zeros(len(logprobs))
    for k in tokens:
        distance = np.arange(1, len(logprobs) - k)
        doubt = -np.expm1(logprobs[k])  # 1 - p_k
        found[k + 1 :] += np.log1p(-doubt * np.exp(-decay * distance))
    return found
