"""What the measured rewards say about a training run, with intervals over groups. Pure numpy.

Each finding has a level: `ok`, `warning` or `unfit`, by the thresholds that the user may set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from opera_client.wire import GroupResult
from opera_service.check.measuring import Measured
from opera_service.check.samples import Sample
from opera_service.rewards.base import SAYS_NOTHING

Level = Literal["ok", "warning", "unfit"]
CUT_OFF = frozenset({"think_unclosed", "empty_answer"})
"""Flags of a response that ended before it had answered, where nobody says how its sampling ended."""
LIKE_LENGTH = 1.35
"""Two responses are of like length when neither is this many times as long as the other."""
_DRAWS = 1000


@dataclass(frozen=True)
class Thresholds:
    """Where a warning begins, and where a run is unfit."""

    informative: tuple[float, float] = (0.7, 0.3)
    """At least this share of groups must carry information."""
    farmed: tuple[float, float] = (0.05, 0.25)
    """At most this share of attacks may earn more than the honest best."""
    agreement: tuple[float, float] = (0.6, 0.5)
    """At least this share of the known pairs must be in order."""
    gated: tuple[float, float] = (0.1, 0.5)
    """At most this share of responses may fail the format."""
    enough: tuple[float, float] = (8, 1)
    """At least so many groups must be checked. Of eight that all carry information, a third of the prompts may yet
    carry none (3/n, the 95 % bound for what was not seen once in n)."""


@dataclass(frozen=True)
class Finding:
    """One number with what it means."""

    section: str
    name: str
    value: float
    low: float | None = None
    """95 % interval over groups, where it is one of a sample."""
    high: float | None = None
    level: Level = "ok"
    advice: str = ""


def findings(measured: Measured, thresholds: Thresholds) -> list[Finding]:
    """Return everything that was found, in the order of the report."""
    return [
        *_signal(measured, thresholds),
        *_farming(measured, thresholds),
        *_format(measured, thresholds),
        *_cost(measured),
    ]


def _signal(measured: Measured, thresholds: Thresholds) -> list[Finding]:
    groups = measured.honest
    informative = [float(_informative(group)) for group in groups]
    spreads = [_spread(group) for group in groups]
    found = [
        _counted(len(groups), thresholds.enough),
        _shared("signal", "groups with information", informative, thresholds.informative, at_least=True,
                advice="sample at a higher temperature, take larger groups, or a larger scorer"),
        Finding("signal", "median spread of a group's rewards", float(np.median(spreads))),
        *_temperature(groups),
    ]  # fmt: skip
    names = sorted({name for group in groups for one in group.trajectories for name in one.components or {}})
    found += [
        _interval("signal", f"correlation of `{name}` with the reward", groups, partial(_correlation, name))
        for name in names
    ]
    both = list(zip(measured.samples, groups, strict=True))
    graded = [_agreement(sample, group, like_length=False) for sample, group in both]
    like = [_agreement(sample, group, like_length=True) for sample, group in both]
    if sum(total for _, total in graded):
        advice = "the reward does not order these responses as you do: try another scorer or reward"
        found.append(_ratio("agreement with the given grades", graded, thresholds.agreement, advice))
    if sum(total for _, total in like):
        found.append(_ratio("the same at like length", like, None, ""))
    found.append(
        _interval("signal", "rank correlation with length", _with_lengths(measured), lambda pair: _spearman(*pair))
    )
    return found


def _farming(measured: Measured, thresholds: Thresholds) -> list[Finding]:
    found: list[Finding] = []
    for family, names in sorted(measured.beaten.items()):
        wins = [float(won) for name in names.values() for won in name]
        worst = max(names, key=lambda name: float(np.mean(names[name])))
        advice = f"worst: {worst}, {100 * float(np.mean(names[worst])):.0f} %"
        found.append(_shared("farming", family, wins, thresholds.farmed, at_least=False, advice=advice))
    return found


def _format(measured: Measured, thresholds: Thresholds) -> list[Finding]:
    members = [one for group in measured.honest for one in group.trajectories]
    failed = [float(one.status == "error") for one in members]
    references = [group.reference_tokens for group in measured.honest]

    def share(flag: str) -> list[float]:
        return [float(flag in one.flags) for one in members]

    thinkless = share("think_missing")
    share_of_thinkless, (low, high) = float(np.mean(thinkless)), _wilson(np.array(thinkless))
    written = [_texts(sample) for sample in measured.samples]
    found = [
        Finding("format", "responses without a think block", share_of_thinkless, low, high,
                advice=_THINKLESS if share_of_thinkless > 0.5 else ""),
        _part("references that hold a thought", ["</think>" in reference for _, reference in written],
              "only what follows the thought is priced; context.reference_part=full prices all of it"),
        _part("prompts in another script than Latin", [_foreign(prompt) for prompt, _ in written],
              "check that this scorer knows the language: compare its agreement there with that on the rest"),
        _shared("format", "responses that fail the format", share("format_gate"), thresholds.gated, at_least=False,
                advice="let the policy think in a closed block, or set think.mode to optional or none"),
        _shared("format", "responses that were cut off", _cut_off(measured), (0.1, 1.0), at_least=False,
                advice="allow more tokens, or ask for shorter answers: what has no end is not taught to end"),
        _shared("format", "responses that could not be scored", failed, (0.0, 0.5), at_least=False,
                advice="their errors are in `score`'s output"),
        Finding("format", "median tokens of a reference", float(np.median(references))),
    ]  # fmt: skip
    if measured.paper is not None:
        paid = [one.reward for group in measured.paper for one in group.trajectories if one.reward is not None]
        if paid:
            found.append(Finding("format", "mean reward of the `paper` preset on the same", float(np.mean(paid))))
    return found


def _cost(measured: Measured) -> list[Finding]:
    count = sum(len(group.trajectories) for group in measured.honest)
    per_hour = 3600 * count / measured.engine_s if measured.engine_s > 0 else float("inf")
    memory = measured.memory_bytes
    largest = max(measured.tokens_computed / len(measured.honest), 1.0)
    return [
        Finding("cost", "tokens computed a trajectory", measured.tokens_computed / count),
        Finding(
            "cost",
            "times as many, one context at a time",
            measured.tokens_naive / max(measured.tokens_computed, 1),
        ),
        Finding("cost", "trajectories an hour on this engine", per_hour),
        Finding(
            "cost",
            "tokens of a mean group",
            largest,
            advice=f"--max-batch-tokens of at least {int(largest)} lets one fit",
        ),
        *([] if memory is None else [Finding("cost", "memory of the engine, GiB", memory / 2**30)]),
    ]


def _temperature(groups: Sequence[GroupResult]) -> list[Finding]:
    """Return how far members are apart in worth, where the reward says so, and the temperature that fits it."""
    told = [[one.components or {} for one in group.trajectories] for group in groups]
    worths = [[components["value"] for components in one if "value" in components] for one in told]
    spreads = [max(one) - min(one) for one in worths if len(one) > 1]
    if not spreads:
        return []
    median = float(np.median(spreads))
    fitting = f"{max(median / 4, 0.01):.2f} to {max(median, 0.04):.2f}"
    # No temperature tells equal ones apart.
    advice = f"a comparison.temperature of {fitting} tells them apart" if median > 0 else ""
    return [Finding("signal", "median spread of `value` in a group, nats a token", median, advice=advice)]


def _cut_off(measured: Measured) -> list[float]:
    """Return 1 for every response that was cut off: as its sampler said, else as its flags show."""
    found = []
    for sample, group in zip(measured.samples, measured.honest, strict=True):
        for at, one in enumerate(group.trajectories):
            said = sample.cut_off[at] if at < len(sample.cut_off) else None
            found.append(float(not CUT_OFF.isdisjoint(one.flags) if said is None else said))
    return found


def _part(name: str, hits: Sequence[bool], advice: str) -> Finding:
    return Finding("format", name, float(np.mean(hits)), advice=advice if any(hits) else "")


def _texts(sample: Sample) -> tuple[str, str]:
    """Return prompt and references as text; empty where they came as ids."""
    prompt, reference = sample.group.prompt, sample.group.reference
    asked = prompt if isinstance(prompt, str) else " ".join(str(one.content) for one in prompt or ())
    return asked, reference if isinstance(reference, str) else " ".join(reference or ())


def _foreign(text: str) -> bool:
    letters = [char for char in text if char.isalpha()]
    return sum(ord(char) > _LAST_LATIN for char in letters) > len(letters) / 2


_LAST_LATIN = 0x24F
_THINKLESS = "the policy does not think: --config think.mode=none"


def _informative(group: GroupResult) -> bool:
    scored = [one for one in group.trajectories if one.reward is not None]
    rewards = [one.reward for one in scored if one.reward is not None]
    silent = all(SAYS_NOTHING.intersection(one.flags) for one in scored)
    return not silent and len(rewards) > 1 and max(rewards) - min(rewards) > 1e-9


def _spread(group: GroupResult) -> float:
    rewards = [one.reward for one in group.trajectories if one.reward is not None]
    return max(rewards) - min(rewards) if rewards else 0.0


def _correlation(name: str, group: GroupResult) -> float | None:
    scored = [
        (one.components[name], one.reward)
        for one in group.trajectories
        if one.reward is not None and one.components is not None
    ]
    return _spearman([value for value, _ in scored], [reward for _, reward in scored])


def _with_lengths(measured: Measured) -> list[tuple[list[float], list[float]]]:
    return [
        (
            [one.reward for one in group.trajectories if one.reward is not None],
            [float(_length(sample, at)) for at, one in enumerate(group.trajectories) if one.reward is not None],
        )
        for sample, group in zip(measured.samples, measured.honest, strict=True)
    ]


def _length(sample: Sample, at: int) -> int:
    one = sample.group.trajectories[at]
    return len(one.response) if one.response is not None else len(one.response_token_ids or ())


def _agreement(sample: Sample, group: GroupResult, *, like_length: bool) -> tuple[float, int]:
    """Return (pairs in order, ties half; pairs)."""
    right, total = 0.0, 0
    for high, low in sample.better:
        first, second = group.trajectories[high].reward, group.trajectories[low].reward
        lengths = sorted((_length(sample, high) + 1, _length(sample, low) + 1))
        if first is None or second is None or (like_length and lengths[1] > LIKE_LENGTH * lengths[0]):
            continue
        right += 0.5 + 0.5 * float(np.sign(round(first - second, 9)))
        total += 1
    return right, total


def _spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    x, y = _ranks(np.asarray(left, float)), _ranks(np.asarray(right, float))
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    below = (values[:, None] > values[None]).sum(1, dtype=np.float64)
    equal = (values[:, None] == values[None]).sum(1, dtype=np.float64)
    ranks: NDArray[np.float64] = below + (equal - 1) / 2
    return ranks


def _interval(section: str, name: str, items: Sequence[object], of: Callable[..., float | None]) -> Finding:
    values = np.array([value for item in items if (value := of(item)) is not None])
    if not len(values):
        return Finding(section, name, float("nan"), advice="not to be told from these groups")
    low, high = _bootstrap(values)
    return Finding(section, name, float(values.mean()), low, high)


def _shared(
    section: str, name: str, hits: Sequence[float], levels: tuple[float, float], *, at_least: bool, advice: str
) -> Finding:
    share = float(np.mean(hits)) if hits else float("nan")
    low, high = _wilson(np.array(hits)) if hits else (None, None)
    level = _level(share, levels, at_least=at_least)
    keep = level != "ok" or section == "farming"
    return Finding(section, name, share, low, high, level, advice if keep else "")


def _ratio(
    name: str, pairs: Sequence[tuple[float, int]], levels: tuple[float, float] | None, advice: str
) -> Finding:
    table = np.array(pairs, float)
    share = float(table[:, 0].sum() / table[:, 1].sum())
    drawn = np.random.default_rng(0).integers(0, len(table), (_DRAWS, len(table)))
    sums = table[drawn].sum(1)
    shares = sums[:, 0][sums[:, 1] > 0] / sums[:, 1][sums[:, 1] > 0]
    level = _level(share, levels, at_least=True) if levels else "ok"
    alone = len(table) < 2
    low, high = (None, None) if alone else map(float, np.quantile(shares, (0.025, 0.975)))
    return Finding("signal", name, share, low, high, level, advice if level != "ok" else "")


def _counted(count: int, levels: tuple[float, float]) -> Finding:
    level = _level(count, levels, at_least=True)
    unseen = min(100.0, 300 / count)
    advice = f"too few to tell: {unseen:.0f} % of the prompts may be of a kind that is not among these"
    return Finding("signal", "groups checked", count, level=level, advice=advice if level != "ok" else "")


def _wilson(hits: NDArray[np.float64]) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, which is wide for few hits, also where all are alike."""
    z2, count, share = 1.959964**2, len(hits), float(hits.mean())
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * count)) / count) / (1 + z2 / count)
    return max(0.0, middle - float(half)), min(1.0, middle + float(half))


def _bootstrap(values: NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """Return the 95 % interval of the mean; none of a single value, of which nothing can be drawn."""
    if len(values) < 2:
        return None, None
    drawn = np.random.default_rng(0).integers(0, len(values), (_DRAWS, len(values)))
    low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    return float(low), float(high)


def _level(value: float, levels: tuple[float, float], *, at_least: bool) -> Level:
    warning, unfit = levels
    if not np.isfinite(value):
        return "warning"
    if at_least:
        return "unfit" if value < unfit else "warning" if value < warning else "ok"
    return "unfit" if value > unfit else "warning" if value > warning else "ok"
