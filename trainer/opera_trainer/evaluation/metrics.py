"""From rollouts to numbers with confidence intervals. Knows rollouts; no model, no service."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import comb
from statistics import fmean

import numpy as np
from scipy.stats import rankdata

from opera_trainer.artefacts import Estimate, Rollout
from opera_trainer.intervals import Kind, mean, of_tasks, ratio, share

REFLECTION = re.compile(r"\b(wait|but|hmm|however|alternatively|let me think)\b", re.IGNORECASE)
FEWER = 4
"""A pooled AUC is slow to resample: this part of the resamples is drawn."""


def measure(rollouts: Iterable[Rollout], resamples: int) -> dict[str, dict[str, Estimate]]:
    """Return tier → metric → estimate. A metric without data is left out, never 0."""
    tiers: dict[str, list[Rollout]] = {}
    for one in rollouts:
        tiers.setdefault(one.tier, []).append(one)
    return {tier: _tier(some, resamples) for tier, some in tiers.items()}


def _tier(rollouts: Sequence[Rollout], resamples: int) -> dict[str, Estimate]:
    tasks: dict[str, list[Rollout]] = {}
    for one in rollouts:
        if one.mode == "sampled":
            tasks.setdefault(one.task_id, []).append(one)
    groups = list(tasks.values())

    def averaged(value: Callable[[Rollout], float | None], kind: Kind = "number") -> Estimate | None:
        return mean(means(groups, value), resamples, kind=kind)

    greedy = [one.right for one in rollouts if one.mode == "greedy" and one.right is not None]
    found: dict[str, Estimate | None] = {
        "accuracy_sampled": averaged(lambda one: None if one.right is None else float(one.right), "share"),
        "accuracy_greedy": share(sum(greedy), len(greedy)),
        **_pass_at(groups, resamples),
        "reference_perplexity": mean(
            means(groups, lambda one: one.mean_logprob), resamples, transform=lambda lp: np.exp(-lp)
        ),
        "tokens": averaged(lambda one: float(one.tokens)),
        "reflective": ratio(*_reflective(groups), resamples),
        "empty_thought": averaged(lambda one: float(not paragraphs(one.response)), "share"),
        "reward": averaged(lambda one: one.reward),
        "reward_auc": ratio(*_wins(groups, lambda one: one.reward), resamples),
        "price_auc": _pooled_auc(groups, lambda one: one.mean_logprob, resamples // FEWER),
    }
    for name in sorted({name for one in rollouts for name in one.components or {}}):
        found[f"component/{name}"] = averaged(lambda one, name=name: (one.components or {}).get(name))  # type: ignore[misc]
    for name in sorted({flag for one in rollouts for flag in one.flags}):
        found[f"flag/{name}"] = averaged(lambda one, name=name: float(name in one.flags), "share")  # type: ignore[misc]
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def means(groups: Iterable[Sequence[Rollout]], value: Callable[[Rollout], float | None]) -> list[float]:
    """Return the mean of a value a task; tasks without any are left out."""
    known = ([found for one in group if (found := value(one)) is not None] for group in groups)
    return [fmean(values) for values in known if values]


def paragraphs(response: str) -> list[str]:
    """Return the paragraphs of the think block, closed or not."""
    thought = response.partition("<think>")[2].partition("</think>")[0]
    return [part for part in thought.split("\n\n") if part.strip()]


def pass_at(k: int, right: int, count: int) -> float:
    """Return the chance that one of k responses is right, drawn without return from `count` of which `right` are.

    The unbiased estimator of Chen et al., 2021 (arXiv 2107.03374).
    """
    return 1 - comb(count - right, k) / comb(count, k)


def auc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """Return the chance that a value of `right` exceeds one of `wrong`, ties counting half; None without pairs."""
    if not right or not wrong:
        return None
    ranks = rankdata([*right, *wrong])[: len(right)]
    return float((ranks.sum() - len(right) * (len(right) + 1) / 2) / (len(right) * len(wrong)))


def _pass_at(groups: Sequence[Sequence[Rollout]], resamples: int) -> dict[str, Estimate | None]:
    checked = [[one.right for one in group if one.right is not None] for group in groups]
    counts = [(sum(rights), len(rights)) for rights in checked if rights]
    most = min((count for _, count in counts), default=0)
    sizes = sorted({k for k in (2, 4, 8, 16, most) if 1 < k <= most})
    return {f"pass_at_{k}": mean([pass_at(k, *one) for one in counts], resamples, kind="share") for k in sizes}


def _reflective(groups: Sequence[Sequence[Rollout]]) -> tuple[list[float], list[float]]:
    """Return reflective paragraphs and paragraphs, a task."""
    every = [[part for one in group for part in paragraphs(one.response)] for group in groups]
    reflective = [float(sum(REFLECTION.search(part) is not None for part in parts)) for parts in every]
    return reflective, [float(len(parts)) for parts in every]


def _wins(
    groups: Sequence[Sequence[Rollout]], value: Callable[[Rollout], float | None]
) -> tuple[list[float], list[float]]:
    """Return, a task, in how many pairs of a right and a wrong response the right is ahead, and the pairs."""
    won, pairs = [], []
    for group in groups:
        right, wrong = _sides(group, value)
        found = auc(right, wrong)
        pairs.append(float(len(right) * len(wrong)))
        won.append(0.0 if found is None else found * pairs[-1])
    return won, pairs


def _pooled_auc(
    groups: Sequence[Sequence[Rollout]], value: Callable[[Rollout], float | None], resamples: int
) -> Estimate | None:
    sides = [_sides(group, value) for group in groups]

    def statistic(places: Sequence[int]) -> float | None:
        right = [x for at in places for x in sides[at][0]]
        wrong = [x for at in places for x in sides[at][1]]
        return auc(right, wrong)

    return of_tasks(statistic, len(groups), resamples)


def _sides(group: Sequence[Rollout], value: Callable[[Rollout], float | None]) -> tuple[list[float], list[float]]:
    known = [(one.right, found) for one in group if (found := value(one)) is not None and one.right is not None]
    return [x for right, x in known if right], [x for right, x in known if not right]
