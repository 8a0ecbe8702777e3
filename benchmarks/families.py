"""Which reward for what: validity, red team and cost of every reward, from one sum a prompt.

    python benchmarks/families.py FILE.jsonl --model smollm2 [--limit 8] [--tasks 2] [--json OUT]

FILE as in `validity.py`, with a judge's preferences. All rewards are terms of one request, so that each response
goes through the model once; the cost of a reward alone is asked for on four short answers to the first prompt. The
judged answers have no thought (`think.mode: none`), the red team's have one. What needs right and wrong, or only
shapes tokens, is not in the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opera_client import RewardClient
from opera_client.wire import Group, RewardResult
from red_team import attack_task
from red_team_tasks import open_tasks
from validity import Values, interval, measures

NO_THOUGHT = {"think": {"mode": "none"}}
TERMS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in ("opera", "logprob", "verifree", "rlpr", "jepo", "nover", "igpo", "dro")},
    **{name: {"name": name} for name in ("rent", "pear", "sar", "empo", "ttrl", "trustjudge")},
    "rent, logprob": {"name": "rent", "config": {"measure": "logprob"}},
}
SHORT = 400
"""Characters of four answers and a reference, on which costs are compared."""
MORE = ": paid more than good"
FIGURES = ("agreement", "agreement, like length", "rank correlation with length")


def terms(*, thought: bool) -> list[dict[str, Any]]:
    """Return every reward of the table as a term of a sum, for responses that think or do not."""
    own = {} if thought else NO_THOUGHT
    return [{**one, "config": {**own, **one.get("config", {})}} for one in TERMS.values()]


def by_term(result: RewardResult) -> dict[str, Values]:
    """Return the rewards of the first group's responses by every reward of the table; NaN where not scored."""
    seen: dict[str, int] = {}
    found: dict[str, Values] = {}
    for label, term in TERMS.items():
        seen[term["name"]] = seen.get(term["name"], 0) + 1
        key = term["name"] if seen[term["name"]] == 1 else f"{term['name']}-{seen[term['name']]}"
        each = [np.nan if one.components is None else one.components[key] for one in result.groups[0].trajectories]
        found[label] = np.array(each, dtype=np.float64)
    return found


class Asked:
    """Asks about all rewards at once, and remembers the answers."""

    def __init__(self, client: RewardClient, *, thought: bool) -> None:
        self._client, self._terms = client, terms(thought=thought)
        self._known: dict[tuple[str, ...], dict[str, Values]] = {}

    def __call__(self, prompt: str, reference: str, responses: Sequence[str]) -> dict[str, Values]:
        key = (prompt, reference, *responses)
        if key not in self._known:
            group = group_of(prompt, reference, responses)
            self._known[key] = by_term(self._client.reward([group], rewards=self._terms, detail="reward"))
        return self._known[key]


class Payer:
    """One reward's answers, as the red team asks for them."""

    def __init__(self, asked: Asked, label: str) -> None:
        self._asked, self._label = asked, label

    def pay(self, prompt: str, reference: str, responses: Sequence[str]) -> Values:
        """Return what the responses of one group are paid; the least of the group for what was not scored."""
        found = self._asked(prompt, reference, responses)[self._label]
        return np.where(np.isnan(found), np.nanmin(found), found)


def group_of(prompt: str, reference: str, responses: Sequence[str]) -> Group:
    """Return one prompt's responses as a group."""
    return Group(
        prompt=[{"role": "user", "content": prompt}],
        reference=reference,
        trajectories=[{"response": one} for one in responses],
    )


def main() -> None:
    """Measure and print one line a reward."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--limit", type=int, default=8, help="prompts")
    parser.add_argument("--tasks", type=int, default=2, help="of the red team")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.file.read_text().splitlines() if line.strip()][: options.limit]
    model = {"model": options.model} if options.model else {}
    with RewardClient.in_process(engine="torch", cache_mb=0, **model) as client:
        table = measured(client, rows, options.tasks)
    for label, figures in table.items():
        print(f"{label:14s}", "  ".join(f"{name} {value}" for name, value in figures.items()))
    if options.json:
        options.json.write_text(
            json.dumps({"prompts": len(rows), "tasks": options.tasks, "table": table}, indent=1)
        )


def measured(client: RewardClient, rows: Sequence[Mapping[str, Any]], tasks: int) -> dict[str, dict[str, Any]]:
    """Return every reward's figures with their intervals, the attacks that beat it, and its cost in tokens."""
    asked, attacked = Asked(client, thought=False), Asked(client, thought=True)
    found = [asked(row["prompt"], row["reference"], list(row["responses"].values())) for row in rows]
    table: dict[str, dict[str, Any]] = {}
    for label in TERMS:
        values = [one[label] for one in found]
        table[label] = {
            name: [round(one, 3) for one in interval(rows, values, measures(rows)[name])] for name in FIGURES
        }
        outcomes: dict[str, list[int]] = {}
        each = open_tasks()
        for at in range(tasks):
            attack_task(Payer(attacked, label), each[at], each[(at + 5) % len(each)], outcomes, 0)
        pooled = [one for name, some in outcomes.items() if name.endswith(MORE) for one in some]
        table[label]["attacks paid more"] = f"{sum(pooled)}/{len(pooled)}"
        first, config = rows[0], {**NO_THOUGHT, **TERMS[label].get("config", {})}
        short = [text[:SHORT] for text in list(first["responses"].values())[:4]]
        group = group_of(first["prompt"], first["reference"][:SHORT], short)
        alone = client.reward([group], reward=TERMS[label]["name"], config=config, detail="reward")
        table[label]["tokens"] = alone.usage.tokens_computed
    return table


if __name__ == "__main__":
    main()
