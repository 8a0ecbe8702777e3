"""How well does a reward order real answers as people or judges do?

    python benchmarks/validity.py FILE.jsonl --url http://127.0.0.1:8000 [--as response|thought] [--reward opera] …
    python benchmarks/validity.py FILE.jsonl --model smollm2            # in this process

A line of the file is one prompt with a `reference`, `responses: {name: text}`, and one of
    judge:  {name: preference}              a judge's preference, pairs at least .1 apart are compared
    scores: {name: {aspect: number}}        human scores, correlated inside a prompt
With 95 % bootstrap intervals over prompts. Length is reported beside everything: what agrees only by
being longer is no validity. With --unhelpful also the share of real answers that are paid less than answers which
help nobody. Closeness to a reference is not truth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from opera_client import RewardClient
from opera_client.wire import Group
from opera_service.check.attacks import JUNK, UNHELPFUL

Values = NDArray[np.float64]
FAR, LIKE = 0.1, 1.35
"""Least distance of two judgements that are compared; most that two lengths of a like pair differ, as a factor."""


def main() -> None:
    """Read the file, ask the service, print the table."""
    options = _parser().parse_args()
    rows = [json.loads(line) for line in options.file.read_text().splitlines() if line.strip()][: options.limit]
    with client_of(options) as client:
        found = [ask(client, row, list(row["responses"].values()), options) for row in rows]
        beaten = unhelpful(client, rows, options) if options.unhelpful else {}
    figures = {name: interval(rows, found, measure) for name, measure in measures(rows).items()}
    for name, (value, low, high) in figures.items():
        print(f"{name:32s} {value:+.3f}  [{low:+.3f}, {high:+.3f}]")
    for name, share in beaten.items():
        print(f"real answers paid less than {name:24s} {share:.2f}")
    if options.json:
        told = {"prompts": len(rows), "figures": figures, "unhelpful": beaten}
        options.json.write_text(json.dumps(told, indent=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--as", dest="form", choices=("response", "thought"), default="response")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--unhelpful", action="store_true", help="once more, beside answers that help nobody")
    parser.add_argument("--json", type=Path)
    add_service(parser)
    return parser


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which reward of which service."""
    parser.add_argument("--url", help="a running service; without it one is made in this process")
    parser.add_argument("--model", default=None, help="of the service in this process")
    parser.add_argument("--reward", default="opera")
    parser.add_argument("--preset", default="hardened")
    parser.add_argument("--config", type=json.loads, default={}, help="JSON that overrides fields of the preset")


def client_of(options: argparse.Namespace) -> RewardClient:
    """Return a client of the service that the options name."""
    if options.url:
        return RewardClient(options.url)
    return RewardClient.in_process(engine="torch", **({"model": options.model} if options.model else {}))


def ask(
    client: RewardClient, row: Mapping[str, Any], answers: Sequence[str], options: argparse.Namespace
) -> Values:
    """Return the rewards of answers to one prompt, in their order; NaN where one was not scored."""
    config = dict(options.config)
    if options.form == "response":
        config = {"think": {"mode": "none"}, **config}
    wrap = "<think>\n{0}\n</think>\n\n{0}" if options.form == "thought" else "{0}"
    group = Group(
        prompt=[{"role": "user", "content": row["prompt"]}],
        reference=row["reference"],
        trajectories=[{"response": wrap.format(text)} for text in answers],
    )
    result = client.reward([group], reward=options.reward, preset=options.preset, config=config, detail="reward")
    return np.array([np.nan if one is None else one for one in result.rewards[0]], dtype=np.float64)


def unhelpful(
    client: RewardClient, rows: Sequence[Mapping[str, Any]], options: argparse.Namespace
) -> dict[str, float]:
    """Return, per kind of answer that helps nobody, the mean share of real answers that are paid less."""
    beaten: dict[str, list[float]] = {}
    for at, row in enumerate(rows):
        real = list(row["responses"].values())
        other = next(iter(rows[(at + 1) % len(rows)]["responses"].values()))
        useless = {
            "a count": JUNK["count"],
            "a loop": JUNK["loop"],
            "praise": UNHELPFUL["praise"],
            "a refusal": UNHELPFUL["refusal"],
            "boilerplate": UNHELPFUL["boilerplate"],
            "the prompt echoed": row["prompt"],
            "another prompt's answer": other,
        }
        paid = np.nan_to_num(ask(client, row, [*real, *useless.values()], options), nan=-np.inf)
        for name, value in zip(useless, paid[len(real) :], strict=True):
            beaten.setdefault(name, []).append(float((paid[: len(real)] < value).mean()))
    return {name: float(np.mean(shares)) for name, shares in beaten.items()}


Row = Mapping[str, Any]
Measure = Callable[[Row, Values], tuple[float, float]]
"""A prompt's sum and count of one figure."""


def measures(rows: Sequence[Row]) -> dict[str, Measure]:
    """Return what can be measured on these rows, by name."""
    found: dict[str, Measure] = {"rank correlation with length": lambda row, value: _one(rho(value, lengths(row)))}
    if "judge" in rows[0]:
        found["agreement"] = lambda row, value: agreement(value, judged(row), lengths(row), like=False)
        found["agreement, like length"] = lambda row, value: agreement(value, judged(row), lengths(row), like=True)
        found["rank correlation given length"] = lambda row, value: _one(partial(value, judged(row), lengths(row)))
        found["length alone: agreement"] = lambda row, _: agreement(
            lengths(row), judged(row), lengths(row), like=False
        )
    for aspect in sorted({key for row in rows for one in row.get("scores", {}).values() for key in one}):

        def human(row: Row, value: Values, aspect: str = aspect) -> tuple[float, float]:
            scores = np.array([row["scores"][name][aspect] for name in row["responses"]], dtype=np.float64)
            return _one(rho(value, scores))

        found[f"human {aspect}: rank correlation"] = human
    return found


def judged(row: Row) -> Values:
    """Return the judge's preferences in the order of the responses."""
    return np.array([row["judge"][name] for name in row["responses"]], dtype=np.float64)


def lengths(row: Row) -> Values:
    """Return the responses' lengths in characters."""
    return np.array([len(text) for text in row["responses"].values()], dtype=np.float64)


def rho(left: Values, right: Values) -> float:
    """Return Spearman's rank correlation; 0 where one of them says nothing."""
    left, right = np.nan_to_num(left, nan=-np.inf), np.nan_to_num(right, nan=-np.inf)
    if len(set(left)) < 2 or len(set(right)) < 2:
        return 0.0
    return float(np.corrcoef(rankdata(left), rankdata(right))[0, 1])


def partial(value: Values, truth: Values, other: Values) -> float:
    """Return the rank correlation of `value` and `truth` with `other` held fixed."""
    x, y, z = rho(value, truth), rho(value, other), rho(truth, other)
    return (x - y * z) / float(np.sqrt(max(1e-12, (1 - y * y) * (1 - z * z))))


def agreement(value: Values, truth: Values, length: Values, *, like: bool) -> tuple[float, float]:
    """Return how many compared pairs `value` orders as `truth` does, ties as a half, and how many there are."""
    left, right = np.triu_indices(len(value), 1)
    value = np.nan_to_num(value, nan=-np.inf)
    compared = np.abs(truth[left] - truth[right]) >= FAR
    if like:
        compared &= np.abs(np.log(length[left] / length[right])) <= np.log(LIKE)
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(np.round(value[left] - value[right], 9))
    same = 0.5 + 0.5 * np.sign(apart * (truth[left] - truth[right]))
    return float(same[compared].sum()), float(compared.sum())


def interval(
    rows: Sequence[Row], values: Sequence[Values], measure: Measure, draws: int = 1000
) -> tuple[float, float, float]:
    """Return a figure over all prompts with its 95 % bootstrap interval."""
    parts = np.array([measure(row, value) for row, value in zip(rows, values, strict=True)])
    rng = np.random.default_rng(0)
    again = [parts[rng.integers(0, len(parts), len(parts))].sum(axis=0) for _ in range(draws)]
    low, high = np.percentile([one[0] / max(one[1], 1e-12) for one in again], [2.5, 97.5])
    total = parts.sum(axis=0)
    return float(total[0] / max(total[1], 1e-12)), float(low), float(high)


def _one(value: float) -> tuple[float, float]:
    return value, 1.0


if __name__ == "__main__":
    main()
