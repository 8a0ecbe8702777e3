"""Which reward for what: validity, red team and cost of every reward, from one sum a prompt.

    python benchmarks/families.py FILE.jsonl --model smollm2 [--limit 8] [--tasks 2] [--journal F] [--json OUT]

FILE as in `validity.py`, with a judge's preferences. The rewards are terms of one request a preset, so that each
response goes through the model once; the cost of a reward alone is asked for on four short answers to the first
prompt. The judged answers have no thought (`think.mode: none`), the red team's have one. What needs right and
wrong, or a second model, or only shapes tokens, is not in the table. With --journal, answers are kept in a file,
and what is in it is not asked again: a run that was cut off goes on, and a larger --limit adds to a smaller one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from opera_client import RewardClient
from opera_client.wire import Group, RewardResult
from red_team import attack_task
from red_team_tasks import open_tasks
from validity import Values, interval, measures

NO_THOUGHT = {"think": {"mode": "none"}}
OTHERS = ("rent", "pear", "sar", "trustjudge")
LIKELIHOODS = ("opera", "logprob", "verifree", "rlpr", "jepo", "nover", "igpo", "dro")
RING = {"judging": {"opponents": 2}}
"""Each answer against two others: all pairs of eleven answers would cost more than everything else together."""
HARDENED: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in LIKELIHOODS},
    **{name: {"name": name} for name in (*OTHERS, "empo", "ttrl")},
    "rent, logprob": {"name": "rent", "config": {"measure": "logprob"}},
    "scope, 2 opponents": {"name": "scope", "config": RING},
}
PAPER: dict[str, dict[str, Any]] = {
    "opera, hardened-1": {"name": "opera", "preset": "hardened-1"},
    **{f"{name}, paper": {"name": name, "preset": "paper"} for name in LIKELIHOODS},
    **{
        f"{name}, paper": {"name": name, "preset": "paper"}
        for name in ("rent", "pear", "sar", "ttrv", "trustjudge")
    },
    "scope, 2 opponents, paper": {"name": "scope", "preset": "paper", "config": RING},
}
REQUESTS = (HARDENED, PAPER)
"""One request each: a sum has at most 16 terms."""
TERMS = {**HARDENED, **PAPER}
SHORT = 400
"""Characters of four answers and a reference, on which costs are compared."""
MORE = ": paid more than good"
FIGURES = ("agreement", "agreement, like length", "rank correlation with length")


def terms(chosen: Mapping[str, dict[str, Any]], *, thought: bool) -> list[dict[str, Any]]:
    """Return rewards of the table as terms of a sum, for responses that think or do not."""
    own = {} if thought else NO_THOUGHT
    return [{**one, "config": {**own, **one.get("config", {})}} for one in chosen.values()]


def by_term(chosen: Mapping[str, dict[str, Any]], result: RewardResult) -> dict[str, list[float | None]]:
    """Return the rewards of the first group's responses by every reward of a sum; None where not scored."""
    seen: dict[str, int] = {}
    found: dict[str, list[float | None]] = {}
    for label, term in chosen.items():
        seen[term["name"]] = seen.get(term["name"], 0) + 1
        key = term["name"] if seen[term["name"]] == 1 else f"{term['name']}-{seen[term['name']]}"
        found[label] = [
            None if one.components is None else one.components[key] for one in result.groups[0].trajectories
        ]
    return found


class Journal:
    """Answers by what was asked; a file keeps them where there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                with suppress(json.JSONDecodeError):  # a line that was cut off
                    one = json.loads(line)
                    self._known[one["asked"]] = one["answer"]

    def answer(self, asked: Any, ask: Callable[[], Any]) -> Any:
        """Return the answer that is known, else what `ask` says."""
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        if key not in self._known:
            self._known[key] = ask()
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write("\n" + json.dumps({"asked": key, "answer": self._known[key]}))
        return self._known[key]


class Asked:
    """Asks about all rewards at once, and remembers the answers."""

    def __init__(self, client: RewardClient, journal: Journal, *, thought: bool) -> None:
        self._client, self._journal, self._thought = client, journal, thought

    def __call__(self, prompt: str, reference: str, responses: Sequence[str]) -> dict[str, Values]:
        """Return what every reward of the table pays the responses; NaN where not scored."""
        found: dict[str, Values] = {}
        for chosen in REQUESTS:
            asked = terms(chosen, thought=self._thought)

            def ask(
                chosen: Mapping[str, dict[str, Any]] = chosen, asked: list[dict[str, Any]] = asked
            ) -> dict[str, list[float | None]]:
                group = group_of(prompt, reference, responses)
                return by_term(chosen, self._client.reward([group], rewards=asked, detail="reward"))

            answer = self._journal.answer([asked, prompt, reference, list(responses)], ask)
            found |= {label: np.array(each, dtype=np.float64) for label, each in answer.items()}
        return found


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
    parser.add_argument("--journal", type=Path, help="where answers are kept")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.file.read_text().splitlines() if line.strip()][: options.limit]
    model = {"model": options.model} if options.model else {}
    with RewardClient.in_process(engine="torch", cache_mb=0, **model) as client:
        table = measured(client, rows, options.tasks, Journal(options.journal))
    for label, figures in table.items():
        print(f"{label:26s}", "  ".join(f"{name} {value}" for name, value in figures.items()))
    if options.json:
        options.json.write_text(
            json.dumps({"prompts": len(rows), "tasks": options.tasks, "table": table}, indent=1)
        )


def measured(
    client: RewardClient, rows: Sequence[Mapping[str, Any]], tasks: int, journal: Journal | None = None
) -> dict[str, dict[str, Any]]:
    """Return every reward's figures with their intervals, the attacks that beat it, and its cost in tokens."""
    journal = journal or Journal(None)
    asked, attacked = Asked(client, journal, thought=False), Asked(client, journal, thought=True)
    found = [asked(row["prompt"], row["reference"], list(row["responses"].values())) for row in rows]
    table: dict[str, dict[str, Any]] = {}
    for label in TERMS:
        values = [one[label] for one in found]
        table[label] = {
            name: [round(one, 3) for one in interval(rows, values, measures(rows)[name])] for name in FIGURES
        }
        table[label]["attacks paid more"] = paid_more(Payer(attacked, label), tasks)
        term = TERMS[label]
        table[label]["tokens"] = journal.answer(
            ["tokens", term, rows[0]["prompt"]], partial(tokens_alone, client, rows[0], term)
        )
    return table


def paid_more(payer: Payer, tasks: int) -> dict[str, list[int]]:
    """Return, a family of attacks, how many are paid more than the good response, and of how many."""
    outcomes: dict[str, list[int]] = {}
    each = open_tasks()
    for at in range(tasks):
        attack_task(payer, each[at], each[(at + 5) % len(each)], outcomes, 0)
    found = {name.removesuffix(MORE): some for name, some in outcomes.items() if name.endswith(MORE)}
    families = {name: [sum(some), len(some)] for name, some in found.items()}
    return {"all": [sum(one[at] for one in families.values()) for at in (0, 1)], **families}


def tokens_alone(client: RewardClient, row: Mapping[str, Any], term: Mapping[str, Any]) -> int:
    """Return the tokens that a reward alone puts through the model for four short answers to a prompt."""
    short = [text[:SHORT] for text in list(row["responses"].values())[:4]]
    group = group_of(row["prompt"], row["reference"][:SHORT], short)
    alone = client.reward(
        [group],
        reward=term["name"],
        preset=term.get("preset", "hardened"),
        config={**NO_THOUGHT, **term.get("config", {})},
        detail="reward",
    )
    return alone.usage.tokens_computed


if __name__ == "__main__":
    main()
