"""The little world of the embedded model: things in a place, counted from 0 to 20 while people come and go.

A `Task` is a question about one such story, its reference sentence and its answer. Tasks are drawn from a seed
and split by what is calculated in them. Knows no reasoning, no tokenizer and no model.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal, get_args

NAMES = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jon", "Kim", "Leo")
PLACES = ("shop", "box", "basket", "cart", "shed", "kitchen", "boat", "school")
GOODS = ("pears", "plums", "nuts", "eggs", "shells", "coins", "books", "cups", "stones", "cakes", "pens", "beads")
VERBS = {"brought": 1, "added": 1, "found": 1, "sold": -1, "took": -1, "lost": -1}
LIMIT = 20
"""Totals stay between 0 and this."""
MOST = 9
"""Largest number of things in one event."""

Split = Literal["train", "validation", "test"]
Tier = Literal["standard", "harder"]
LENGTHS: dict[Tier, tuple[int, int]] = {"standard": (2, 4), "harder": (5, 6)}
"""Fewest and most events of a task; the embedded model saw few of the harder tier, a policy sees none."""


@dataclass(frozen=True)
class Event:
    """Somebody brings or takes some of the goods."""

    actor: str
    verb: str
    amount: int

    def __str__(self) -> str:
        """Return the event as the story tells it, without a full stop."""
        return f"{self.actor} {self.verb} {self.amount}"

    @property
    def change(self) -> int:
        """What the event adds to the total, with its sign."""
        return VERBS[self.verb] * self.amount

    def sum(self, total: int, result: int) -> str:
        """Return the calculation in words, such as `12 minus 3 is 9`; `result` need not be right."""
        return f"{total} {'plus' if self.change > 0 else 'minus'} {self.amount} is {result}"


@dataclass(frozen=True)
class Task:
    """A story and the question how many things there are in the end."""

    place: str
    goods: str
    start: int
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        """Refuse a story whose total leaves the world."""
        if not possible(self.totals):
            raise ValueError(f"totals must stay within 0..{LIMIT}, got {self.totals}")

    @cached_property
    def totals(self) -> tuple[int, ...]:
        """The total before the first event and after each one."""
        return tuple(accumulate((event.change for event in self.events), initial=self.start))

    @property
    def answer(self) -> int:
        """The total in the end."""
        return self.totals[-1]

    @property
    def question(self) -> str:
        """The story and the question, as the user writes them."""
        told = " ".join(f"{event}." for event in self.events)
        place, goods = self.place, self.goods
        return f"The {place} has {self.start} {goods}. {told} How many {goods} does the {place} have now?"

    def sentence(self, total: int) -> str:
        """Return the answer sentence for any total."""
        return f"The {self.place} now has {total} {self.goods}."

    @property
    def reference(self) -> str:
        """The known good answer."""
        return self.sentence(self.answer)

    @property
    def key(self) -> str:
        """The canonical task, e.g. `12-3+5`: what is calculated, whoever does it to whatever."""
        return f"{self.start}" + "".join(f"{event.change:+d}" for event in self.events)

    @property
    def split(self) -> Split:
        """80 % train, 5 % validation, 15 % test, by hash of the canonical task."""
        bucket = int.from_bytes(hashlib.sha256(self.key.encode()).digest()[:4], "big") % 100
        return "train" if bucket < 80 else "validation" if bucket < 85 else "test"

    def is_right(self, text: str) -> bool:
        """Tell whether `text`, an answer or a whole response, ends in exactly the reference sentence.

        For evaluation only: no reward may see it.
        """
        return text.rpartition("</think>")[2].removesuffix("<|im_end|>").strip() == self.reference


def possible(totals: tuple[int, ...]) -> bool:
    """Tell whether all totals lie in the world."""
    return all(0 <= total <= LIMIT for total in totals)


def draw(rng: random.Random, tier: Tier = "standard") -> Task:
    """Draw one task of any split."""
    count = rng.randint(*LENGTHS[tier])
    total = start = rng.randint(0, LIMIT)
    events = []
    for actor in rng.sample(NAMES, count):
        amount = rng.choice([n for n in range(1, MOST + 1) if total + n <= LIMIT or total >= n])
        verbs = [verb for verb, sign in VERBS.items() if 0 <= total + sign * amount <= LIMIT]
        events.append(Event(actor, rng.choice(verbs), amount))
        total += events[-1].change
    return Task(rng.choice(PLACES), rng.choice(GOODS), start, tuple(events))


def stream(split: Split, rng: random.Random, tier: Tier = "standard") -> Iterator[Task]:
    """Draw tasks of one split without end; calculations may repeat."""
    if split not in get_args(Split) or tier not in get_args(Tier):
        raise ValueError(f"split is one of {get_args(Split)}, tier of {get_args(Tier)}; got {split!r}, {tier!r}")
    while True:
        task = draw(rng, tier)
        if task.split == split:
            yield task


def tasks(split: Split, count: int, *, seed: int = 0, tier: Tier = "standard") -> list[Task]:
    """Return `count` tasks, no calculation twice; the same arguments always give the same tasks."""
    found: dict[str, Task] = {}
    drawn = stream(split, random.Random(f"{split}/{tier}/{seed}"), tier)
    while len(found) < count:
        task = next(drawn)
        found.setdefault(task.key, task)
    return list(found.values())
