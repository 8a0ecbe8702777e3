"""SCOPE's bidirectional preference: the judge is asked in both orders, and its doubt is known."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from opera_service.rewards.judge_labels import JudgeConfig, JudgeReward, Labels

_LN2 = float(np.log(2))


class ScopeConfig(JudgeConfig):
    """Choices of `scope`."""

    most_entropy: float = Field(
        _LN2,
        ge=0,
        le=0.6931472,
        description="Nats, at most ln 2. Comparisons with a larger entropy count as undecided.",
    )


class Scope(JudgeReward[ScopeConfig]):
    """Mean preference over the opponents, averaged over both orders."""

    name = "scope"
    summary = "How much the model itself prefers the answer to its peers, asked in both orders."
    source = "SCOPE, arXiv 2602.13110: bidirectional preference entropy (formula from secondary notes)"
    needs = ("group",)
    equation = "r_i = mean_k p_ik, p_ik = (P(i | i first) + P(i | i second)) / 2; undecided where H(p_ik) > λ"
    unsettled = (
        "λ comes from a calibration with human labels in the paper; ln 2, which accepts everything, is assumed.",
        "The judge's prompt is in our words, and P is normalised over the two labels.",
        "The paper selects verdicts; that their mean over the peers is a reward is ours.",
    )
    components = ("preference", "entropy", "order_bias", "undecided")
    presets = {  # noqa: RUF012 (declared ClassVar by the base)
        "hardened": ScopeConfig(most_entropy=0.65),
        "paper": ScopeConfig(format_gate=False),
    }

    def value(self, member: str, labels: Labels) -> tuple[float, dict[str, float], tuple[str, ...]]:
        """Return the mean over the opponents; a half, flagged, without any."""
        chances, entropies, bias, undecided = [], [], [], 0
        for first, second in labels:
            if first != member:
                continue
            ahead = _chance(labels[first, second])
            behind = 1 - _chance(labels[second, first])
            both = (ahead + behind) / 2
            entropy = binary_entropy(both)
            unsure = entropy > self.config.most_entropy
            undecided += unsure
            chances.append(0.5 if unsure else both)
            entropies.append(entropy)
            bias.append(abs(ahead - behind))
        if not chances:
            alone = {"preference": 0.5, "entropy": _LN2, "order_bias": 0.0, "undecided": 1.0}
            return 0.5, alone, ("uninformative",)
        preference = float(np.mean(chances))
        components = {
            "preference": preference,
            "entropy": float(np.mean(entropies)),
            "order_bias": float(np.mean(bias)),
            "undecided": undecided / len(chances),
        }
        return preference, components, ("uninformative",) if undecided == len(chances) else ()


def _chance(logprobs: np.ndarray) -> float:
    """Return the probability of the first of two labels, among the two."""
    return float(np.exp(logprobs[0] - np.logaddexp(logprobs[0], logprobs[1])))


def binary_entropy(chance: float) -> float:
    """Return the entropy of a coin in nats."""
    return float(-sum(p * np.log(p) for p in (chance, 1 - chance) if p > 0))
