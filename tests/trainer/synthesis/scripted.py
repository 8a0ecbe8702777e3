"""A service that is a seeded dice: it keeps /expand's promises about guiding words, stops and lengths."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

from opera_client.wire import (
    BranchResult,
    CandidateResult,
    ExpandItem,
    ExpandItemResult,
    Message,
    RankItem,
    RankItemResult,
)
from opera_trainer.artefacts import Task

R = TypeVar("R")
TASK = Task(
    id="t",
    prompt=[Message(role="user", content="How many?")],
    reference="The shop now has 9 pears.",
    check="exact",
)


def run(search: Any, answer: Callable[[Any], Any]) -> tuple[Any, list[Any]]:
    """Drive a search to its end; returns what it found and all that it asked."""
    asked, reply = [], None
    try:
        while True:
            asked.append(search.send(reply))
            reply = answer(asked[-1])
    except StopIteration as stop:
        return stop.value, asked


class Dice:
    """Answers with random texts and prices."""

    def __init__(self, seed: int, *, closing: float = 0.2, braking: float = 0.3) -> None:
        self.random = random.Random(seed)
        self.closing, self.braking = closing, braking

    def __call__(self, item: ExpandItem | RankItem) -> ExpandItemResult | RankItemResult:
        if isinstance(item, RankItem):
            scored = [CandidateResult(status="ok", score=self.price()) for _ in item.candidates]
            return RankItemResult(id="0", status="ok", ranking=list(range(len(scored))), candidates=scored)
        words = item.guiding_words or [""]
        branches = [self.branch(item, words[place % len(words)]) for place in range(item.n)]
        return ExpandItemResult(id="0", status="ok", ranking=[], candidates=branches)

    def price(self) -> float:
        return -self.random.choice((0.01, 0.1, 0.5, 1.0, self.random.random()))

    def branch(self, item: ExpandItem, word: str) -> BranchResult:
        text = word + self.random.choice(("", " so it is 3.", " 4 plus 5 is 9.", f" note {self.random.random()}."))
        ending = self.random.random()
        stop: str | None
        if not item.stop_after:
            stop = "<|im_end|>"
        elif ending < self.closing:
            text, stop = f"{text}</think>", "</think>"
        elif item.stop and ending < self.closing + self.braking:
            stop = self.random.choice(item.stop)
        elif ending > 0.97:
            stop = self.random.choice((None, "<|im_end|>"))
        else:
            text, stop = f"{text}\n\n", "\n\n"
        return branch(text, word, stop, self.price() if text else None)


def branch(text: str, word: str | None, stop: str | None, price: float | None) -> BranchResult:
    return BranchResult(
        status="ok",
        text=text,
        token_ids=list(range(len(text.split()))),
        guiding_word=word,
        finish_reason="length" if stop is None else "stop",
        stopped_by=stop,
        score=price,
        mean_logprob=price,
    )
