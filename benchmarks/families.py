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
LIKELIHOODS = ("opera", "logprob", "verifree", "rlpr", "jepo", "nover", "igpo", "dro")
RING = {"judging": {"opponents": 2}}
"""Each answer against two others: all pairs of eleven answers would cost more than everything else together."""
Terms = dict[str, dict[str, Any]]


def _both(name: str, label: str = "", **more: Any) -> Terms:
    own = {"name": name, **more}
    return {label or name: own, f"{label or name}, paper": {**own, "preset": "paper"}}


HARDENED: Terms = {
    **{name: {"name": name} for name in LIKELIHOODS},
    **_both("rent"), **_both("pear"), **_both("sar"),
    "rent, logprob": {"name": "rent", "config": {"measure": "logprob"}},
}  # fmt: skip
PAPER: Terms = {
    "opera, hardened-1": {"name": "opera", "preset": "hardened-1"},
    **{f"{name}, paper": {"name": name, "preset": "paper"} for name in LIKELIHOODS},
    "empo": {"name": "empo"},
    "ttrl": {"name": "ttrl"},
    "ttrv, paper": {"name": "ttrv", "preset": "paper"},
}
JUDGES: Terms = {**_both("trustjudge"), **_both("scope", "scope, 2 opponents", config=RING)}
REQUESTS = (HARDENED, PAPER, JUDGES)
"""One request each: a sum has at most 16 terms, and judges cost as much as all others."""
TERMS = {**HARDENED, **PAPER, **JUDGES}
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


class Unknown(Exception):
    """The journal does not hold it, and nothing may be asked."""


class Journal:
    """Answers by what was asked; a file keeps them where there is one."""

    def __init__(self, path: Path | None, *, closed: bool = False) -> None:
        """A `closed` one asks nothing."""
        self._path, self._closed = path, closed
        self._known: dict[str, Any] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                with suppress(json.JSONDecodeError):  # a line that was cut off
                    one = json.loads(line)
                    self._known[one["asked"]] = one["answer"]

    def answer(self, asked: Any, ask: Callable[[], Any]) -> Any:
        """Return the answer that is known, else what `ask` says. Raises Unknown when closed."""
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        if key not in self._known:
            if self._closed:
                raise Unknown
            self._known[key] = ask()
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write("\n" + json.dumps({"asked": key, "answer": self._known[key]}))
        return self._known[key]


class Asked:
    """Asks about all rewards of a request at once, and remembers the answers."""

    def __init__(self, client: RewardClient, journal: Journal, *, thought: bool) -> None:
        self._client, self._journal, self._thought = client, journal, thought

    def __call__(self, label: str, prompt: str, reference: str, responses: Sequence[str]) -> Values:
        """Return what one reward of the table pays the responses; NaN where not scored."""
        chosen = next(one for one in REQUESTS if label in one)
        asked = terms(chosen, thought=self._thought)

        def ask() -> dict[str, list[float | None]]:
            group = group_of(prompt, reference, responses)
            return by_term(chosen, self._client.reward([group], rewards=asked, detail="reward"))

        answer = self._journal.answer([asked, prompt, reference, list(responses)], ask)
        return np.array(answer[label], dtype=np.float64)


class Payer:
    """One reward's answers, as the red team asks for them."""

    def __init__(self, asked: Asked, label: str) -> None:
        self._asked, self._label = asked, label

    def pay(self, prompt: str, reference: str, responses: Sequence[str]) -> Values:
        """Return what the responses of one group are paid; the least of the group for what was not scored."""
        found = self._asked(self._label, prompt, reference, responses)
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
    parser.add_argument("--judged", type=int, default=4, help="prompts for rewards that ask a judge")
    parser.add_argument("--journal", type=Path, help="where answers are kept")
    parser.add_argument("--known", action="store_true", help="ask nothing: the table of what the journal holds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.file.read_text().splitlines() if line.strip()][: options.limit]
    model = {"model": options.model} if options.model else {}
    journal = Journal(options.journal, closed=options.known)
    with RewardClient.in_process(engine="torch", cache_mb=0, **model) as client:
        table = measured(client, rows, options.tasks, judged=options.judged, journal=journal)
    for label, figures in table.items():
        print(f"{label:26s}", "  ".join(f"{name} {value}" for name, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


def measured(
    client: RewardClient,
    rows: Sequence[Mapping[str, Any]],
    tasks: int,
    *,
    judged: int | None = None,
    journal: Journal | None = None,
) -> dict[str, dict[str, Any]]:
    """Return every reward's figures with their intervals, the attacks that beat it, and its cost in tokens."""
    journal = journal or Journal(None)
    asked, attacked = Asked(client, journal, thought=False), Asked(client, journal, thought=True)
    table: dict[str, dict[str, Any]] = {label: {} for label in TERMS}
    for chosen in REQUESTS:  # a prompt's rewards are answered together
        count = len(rows) if chosen is not JUDGES or judged is None else judged
        found: list[tuple[Mapping[str, Any], dict[str, Values]]] = []
        for row in rows[:count]:
            given = row["prompt"], row["reference"], list(row["responses"].values())
            with suppress(Unknown):
                found.append((row, {label: asked(label, *given) for label in chosen}))
        own = [row for row, _ in found]
        for label in chosen if found else ():
            values = [one[label] for _, one in found]
            table[label] = {"prompts": len(found)} | {
                name: [round(one, 3) for one in interval(own, values, measures(own)[name])] for name in FIGURES
            }
    for label, term in TERMS.items():
        with suppress(Unknown):
            ask = partial(tokens_alone, client, rows[0], term)
            table[label]["tokens"] = journal.answer(["tokens", term, rows[0]["prompt"]], ask)
    for label in TERMS:
        table[label] |= paid_more(Payer(attacked, label), tasks)
    return table


def paid_more(payer: Payer, tasks: int) -> dict[str, Any]:
    """Return the attacked tasks, and a family of attacks how many, of how many, beat the good one."""
    outcomes: dict[str, list[int]] = {}
    each, done = open_tasks(), 0
    for at in range(tasks):
        own: dict[str, list[int]] = {}
        with suppress(Unknown):  # the families before it are known
            attack_task(payer, each[at], each[(at + 5) % len(each)], own, 0)
            done += 1
        for name, some in own.items():
            outcomes[name] = [*outcomes.get(name, []), *some]
    found = {name.removesuffix(MORE): some for name, some in outcomes.items() if name.endswith(MORE)}
    families = {name: [sum(some), len(some)] for name, some in found.items()}
    everything = [sum(one[at] for one in families.values()) for at in (0, 1)]
    return {"tasks": done, "attacks paid more": {"all": everything, **families}}


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
