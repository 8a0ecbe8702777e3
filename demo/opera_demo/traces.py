"""Reasoning about a task, thought by thought: right, wrong, mended, spoiled, or beside the point.

A `Reasoner` keeps the running total it believes in, so that later thoughts and the answer follow from earlier
mistakes as a writer's would. Knows the world's text format; no tokenizer, no model.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from opera_demo.world import Task, possible

Kind = Literal["step", "slip", "fix", "spoil", "confirm", "filler"]
Detour = Literal["slip", "fix", "spoil", "confirm", "filler"]
REFLECTIONS = ("Wait", "But", "Hmm", "However")
FILLERS = (
    "Wait, let me think about this once more.",
    "Wait, let me check the last step again.",
    "Hmm, let me look at the story again.",
    "But let me be careful with what comes next.",
    "However, I should go on step by step.",
    "Let me think about what happens next.",
    "Now I will go on with the story.",
    "I will take it one step at a time.",
)


@dataclass(frozen=True)
class Thought:
    """One segment of a think block and the total its writer believes in afterwards."""

    kind: Kind
    text: str
    total: int
    told: int
    """Events accounted for so far."""


class Reasoner:
    """Writes a think block about `task`; each method adds one thought. All chance comes from `rng`."""

    def __init__(self, task: Task, rng: random.Random) -> None:
        self.task = task
        self.thoughts: list[Thought] = []
        self._rng = rng
        self._before = task.start  # the total before the event told last

    @property
    def total(self) -> int:
        """The total believed in so far."""
        return self.thoughts[-1].total if self.thoughts else self.task.start

    @property
    def told(self) -> int:
        """Events accounted for so far."""
        return self.thoughts[-1].told if self.thoughts else 0

    @property
    def done(self) -> bool:
        """Whether every event has been told."""
        return self.told == len(self.task.events)

    def step(self) -> None:
        """Tell the next event and calculate right from the total believed in."""
        self._tell("step", self.total + self.task.events[self.told].change)

    def slip(self) -> None:
        """Tell the next event and calculate wrong. Raises ValueError where `can_slip` is false."""
        self._tell("slip", self._rng.choice(wrong_totals(self.task, self.told, self.total)))

    def fix(self) -> None:
        """Take the last calculation back and do it right."""
        event = self.task.events[self.told - 1]
        self._again("fix", "wrong", self._before + event.change)

    def spoil(self) -> None:
        """Take the last calculation back and do it wrong. Raises ValueError where `can_spoil` is false."""
        self._again("spoil", "wrong", self._rng.choice(wrong_totals(self.task, self.told - 1, self._before)))

    def confirm(self) -> None:
        """Repeat the last calculation and find it right."""
        self._again("confirm", "right", self.total)

    def filler(self) -> None:
        """Say something that neither calculates nor tells."""
        self._add("filler", self._rng.choice(FILLERS), self.total, self.told)

    @property
    def can_slip(self) -> bool:
        """Whether a wrong next total exists with which the story can still be told to its end."""
        return not self.done and bool(wrong_totals(self.task, self.told, self.total))

    @property
    def can_spoil(self) -> bool:
        """The same for the event told last."""
        return self.told > 0 and bool(wrong_totals(self.task, self.told - 1, self._before))

    def _tell(self, kind: Kind, result: int) -> None:
        event, self._before = self.task.events[self.told], self.total
        self._add(kind, f"{event}, {event.sum(self.total, result)}.", result, self.told + 1)

    def _again(self, kind: Kind, verdict: str, result: int) -> None:
        event = self.task.events[self.told - 1]
        word = self._rng.choice(REFLECTIONS)
        self._add(kind, f"{word}, that is {verdict}, {event.sum(self._before, result)}.", result, self.told)

    def _add(self, kind: Kind, text: str, total: int, told: int) -> None:
        if kind in ("fix", "spoil", "confirm") and not told:
            raise ValueError(f"nothing has been told yet that a {kind} could take up")
        self.thoughts.append(Thought(kind, text, total, told))


def wrong_totals(task: Task, event: int, before: int) -> list[int]:
    """Return near misses of `before` + event, after which the story can still be told to its end."""
    right = before + task.events[event].change
    changes = [later.change for later in task.events[event + 1 :]]
    near = [right + miss for miss in (-3, -2, -1, 1, 2, 3)]
    return [wrong for wrong in near if possible(tuple(accumulate(changes, initial=wrong)))]


def conclusion(task: Task, thoughts: Iterable[Thought]) -> int:
    """Return the answer that follows from `thoughts`: their last total, the events not yet told done right."""
    total, told = task.start, 0
    for thought in thoughts:
        total, told = thought.total, thought.told
    return total + sum(event.change for event in task.events[told:])


def trace(task: Task, rng: random.Random, detour: Detour | None = None) -> list[Thought]:
    """Reason through the whole task with at most one detour, at a random event.

    None: all right. `slip`: a mistake nobody notices. `fix`: a mistake mended by the next thought. `spoil`: a
    right step taken back. `confirm`, `filler`: a right trace with one idle thought. Conclusions are wrong for
    `slip` and `spoil` and right otherwise.
    """
    places = [event for event, before in enumerate(task.totals[:-1]) if wrong_totals(task, event, before)]
    chosen = rng.choice(places)  # never empty: the last total can always be missed
    reasoner = Reasoner(task, rng)
    for event in range(len(task.events)):
        if event == chosen and detour in ("slip", "fix"):
            reasoner.slip()
        else:
            reasoner.step()
        if event == chosen and detour not in (None, "slip"):
            getattr(reasoner, detour)()
    return reasoner.thoughts


def response(thoughts: Iterable[str], answer: str) -> str:
    """Return the whole response: think block, one paragraph a thought, then the answer."""
    return "<think>\n" + "".join(f"{thought}\n\n" for thought in thoughts) + "</think>\n\n" + answer
