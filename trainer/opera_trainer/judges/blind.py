"""A page on which people compare answers without knowing whose they are, and what their votes say.

The page needs no network. It keeps votes in the browser and gives them as a file; files in the run's folder
`votes/` are counted by the next `train run`. Which side is which is in the file, not on the page.
"""

from __future__ import annotations

import html
import json
import random
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path

from opera_client.errors import BadInput
from opera_trainer.artefacts import Estimate
from opera_trainer.intervals import mean
from opera_trainer.judges.llm import Pair

VOTES = "votes"
"""Folder of the run with people's files."""
CHOICES = {"left": -1, "right": 1, "tie": 0}
Votes = Mapping[str, Sequence[int]]
"""Task → one vote a person: 1 for the answer after training, -1 for the one before, 0 for a tie."""


def write(path: Path, pairs: Sequence[Pair], seed: int) -> None:
    """Write the page; the side of each answer is drawn from `seed` and the task."""
    cards = "".join(_card(number, pair, seed) for number, pair in enumerate(pairs, start=1))
    template = files(__package__).joinpath("blind.html").read_text(encoding="utf-8")
    path.write_text(template.replace("{{CARDS}}", cards).replace("{{COUNT}}", str(len(pairs))), encoding="utf-8")


def _card(number: int, pair: Pair, seed: int) -> str:
    swapped = random.Random(f"{seed}/{pair.task_id}").random() < 0.5
    left, right = (pair.after, pair.before) if swapped else (pair.before, pair.after)
    sides = "".join(
        f"<div class='answer'>{html.escape(text) or '<i>no answer</i>'}</div>" for text in (left, right)
    )
    name = html.escape(pair.task_id)
    buttons = "".join(
        f"<label><input type='radio' name='{name}' value='{value}'> {word}</label>"
        for value, word in (("left", "left is better"), ("tie", "equally good"), ("right", "right is better"))
    )
    # A sign that says nothing to a reader and restores the sides in the file of votes.
    return (
        f"<section data-task='{name}' data-key='{int(swapped)}'><h2>{number}</h2>"
        f"<p class='prompt'>{html.escape(pair.prompt)}</p><div class='sides'>{sides}</div>"
        f"<p class='vote'>{buttons}</p></section>"
    )


def votes(folder: Path) -> dict[str, list[int]]:
    """Return everybody's votes by task. Raises BadInput naming the file that cannot be read."""
    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["votes"]
            for row in rows:
                side = CHOICES[row["choice"]]
                found.setdefault(str(row["task"]), []).append(-side if row["key"] else side)
        except (OSError, ValueError, KeyError, TypeError):
            raise BadInput(f"{path} is no file of votes from blind.html") from None
    return found


def means(found: Votes) -> list[float]:
    """Return the mean vote of every task."""
    return [sum(some) / len(some) for some in found.values() if some]


def share_of(preferences: Sequence[float], resamples: int) -> Estimate | None:
    """Return how often the later answer wins, ties counting half; preferences go from -1 to 1, one a task."""
    return mean([(one + 1) / 2 for one in preferences], resamples, kind="share")


def agreement(found: Votes) -> float | None:
    """Return how often two people say the same of a task; None where no task has two votes."""
    pairs = [one == other for some in found.values() for one, other in combinations(some, 2)]
    return sum(pairs) / len(pairs) if pairs else None
