"""What an answer is worth in nats per token: how it explains the reference, and what may confirm that.

Pure numpy; log-probs in, one number a response out. Every formula has its reason, with the measurement, in
docs/validity.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def surprise(initial: Values, cap: float) -> Values:
    """Return each reference token's weight: its surprise without any response, in nats, at most `cap`.

    Tokens that the model expects anyway say nothing about a response (grammar, the prompt's own words), and one
    that it can hardly ever expect must not outweigh all others. The first token of a reference that goes on says
    how its writer opens an answer, and weighs nothing. Never all zero.
    """
    weights = np.clip(-initial, _LEAST, cap)
    if len(weights) > _BRIEF:
        weights[0] = _LEAST
    return weights


_LEAST = 1e-3
"""Nats: keeps the weights of a reference that is certain beforehand positive."""
_BRIEF = 12
"""Tokens of a reference whose first one may be all that it says."""


def gain(logprobs: Values, initial: Values, weights: Values, clip: float, losses: float) -> float:
    """Return the weighted mean over the reference's tokens of how much more likely they became, in nats.

    Clipped by token, so that one token neither makes nor ruins a response. A token that became less likely counts
    `losses` times: it tells less of an answer than one that became likelier.
    """
    change = np.clip(logprobs - initial, -clip, clip)
    return float(weights @ np.where(change < 0, losses * change, change) / weights.sum())


def lift(given: Values, alone: Values, clip: float, padding: float) -> float:
    """Return how much more likely the reference made the answer, in nats per answer token; 0 for no tokens.

    `padding` tokens without any lift are added: a word or two can have a high one by chance.
    """
    return float(np.clip(given - alone, -clip, clip).sum() / (len(given) + padding))


def relevance(asked: Values, unasked: Values, own: NDArray[np.bool_], clip: float, padding: float) -> float:
    """Return how much more likely the prompt made the answer, in nats per answer token; 0 for no tokens.

    `own` are the tokens that are neither the prompt's nor said before; the others count at most twice what those
    do, so that neither the prompt echoed nor a loop is relevant. `padding` tokens without any are added.
    """
    change = np.clip(asked - unasked, -clip, clip)
    new, known = float(change[own].sum()), float(change[~own].sum())
    return (new + min(known, 2 * max(new, 0.0))) / (len(asked) + padding)


def shortfall(relevance: float, answer: float, least: float) -> float:
    """Return what an answer lacks to be one to this prompt, in nats per token, in [0, least].

    Half of what it explains of the reference is evidence of relevance, too.
    """
    return max(0.0, least - max(relevance, 0.0) - max(answer, 0.0) / 2)


def confirmed(main: float, confirmations: Sequence[tuple[float, float]]) -> float:
    """Return `main` plus, for each (value, share), the value but at most `share` of what `main` is above 0.

    A confirmation can lower the total without limit, and never earns anything by itself.
    """
    return main + sum(min(value, share * max(main, 0.0)) for value, share in confirmations)


def bounded_rank(values: Values, temperature: float) -> Values:
    """Return each member's mean soft win, in (0, 1), over its peers and an empty response, whose value is 0.

    The empty response keeps a group of bad answers from paying its least bad one like a good one, and lets a
    group of one be paid. One member can take at most 1 / n from another, whatever its value is.
    """
    count = len(values)
    rivals = np.concatenate([values, [0.0]])
    wins = 0.5 * (1 + np.tanh((values[:, None] - rivals[None, :]) / (2 * temperature)))
    return np.asarray((wins.sum(axis=1) - 0.5) / count)


def reflected(levels: Values, unmarked: Values, reflective: NDArray[np.bool_], rival: float) -> Values:
    """Return, per segment, the nats per token that reflecting won, in [0, inf).

    A reflective segment wins what it rises above everything before it, above the same paragraph without its
    markers, and above what peers that do not reflect reach at their end.

    Args:
        levels: gain over an empty thought after 0 … S segments.
        unmarked: per segment, the level had it been written without its markers; -inf where there is none.
        reflective: which segments hold a marker.
        rival: best final level among peers without reflective segments; -inf without any.
    """
    before = np.maximum.accumulate(levels)[:-1]
    bar = np.maximum(np.maximum(before, unmarked), rival)
    return np.asarray(np.where(reflective, np.maximum(0.0, levels[1:] - bar), 0.0))
