"""How rewards say what they are made of, for people and for the pages that draw it."""

from __future__ import annotations

from collections.abc import Mapping

from opera_client.wire import Formula, Term


def weighted_sum(weights: Mapping[str, float | None], gate: str = "") -> Formula:
    """Return the formula of a sum of components by their weights; weight 0 or None is not in it.

    `gate` says in words what may still change the sum.
    """
    paid = {name: weight for name, weight in weights.items() if weight}
    text = " + ".join(name if weight == 1 else f"{weight:g} · {name}" for name, weight in paid.items())
    return Formula(
        text=f"{text or '0'}{gate and f'; {gate}'}",
        terms=[Term(component=name, weight=weight) for name, weight in paid.items()],
    )


def times_outcome(share: float) -> Formula:
    """Return the formula of a right answer's reward, of which `share` depends on `relative`."""
    return Formula(text=f"outcome · ({1 - share:g} + {share:g} · relative)", terms=[])
