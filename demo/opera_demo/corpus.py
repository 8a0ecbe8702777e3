"""Training documents for the embedded model: noisy reasoning of the little world, often cut short.

The answer always follows the reasoning it stands after, right or wrong: that is what makes the model price a
reference by its reasoning. Only the train split is used. Knows text, no token ids and no model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from opera_demo.traces import Reasoner, Thought, conclusion
from opera_demo.world import Task, stream

CHAT = "<|im_start|>{role}\n{content}<|im_end|>\n"
"""One message; the tokenizer's chat template says the same."""
TURN = "<|im_start|>assistant\n"
"""Opens the assistant's turn."""
END = "<|im_end|>"

# Chances, a step or a document at a time.
SLIP, MENDED = 0.12, 0.5
SPOIL, CONFIRM, FILLER, NOISE = 0.04, 0.04, 0.05, 0.02
DIRECT, CUT = 0.10, 0.40
TIGHT = 0.20
HARDER = 0.25
RESTATED, LABELLED = 0.20, 0.30
LABEL = "Answer:\n"
"""What the default reward says before a reference."""

SYLLABLES = (
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ha",
    "je",
    "ki",
    "lo",
    "mu",
    "na",
    "qui",
    "ro",
    "se",
    "ta",
    "vu",
    "st",
    "ing",
)


@dataclass(frozen=True)
class Span:
    """A piece of a document; the model is trained to predict it only when `learn` is set."""

    text: str
    learn: bool


def prompt(question: str) -> str:
    """Return the chat prompt for one user message, ready for the assistant's turn."""
    return CHAT.format(role="user", content=question) + TURN


def document(task: Task, rng: random.Random) -> list[Span]:
    """Return one training document as spans that tokenise separately.

    10 % answer directly; 40 % close the think block after a random thought; in 20 % the last thought ends with a
    single line break. Noise paragraphs are read but never learnt, so that foreign text moves prices little.
    """
    fate = rng.random()
    thoughts = [] if fate < DIRECT else reason(task, rng)
    if fate < DIRECT + CUT:
        thoughts = thoughts[: rng.randint(1, len(thoughts))] if thoughts else []
    spans = [Span(prompt(task.question), False), Span("<think>\n", True)]
    tight = rng.random() < TIGHT
    for number, thought in enumerate(thoughts, start=1):
        if rng.random() < NOISE:
            spans.append(Span(f"{noise(rng)}\n\n", False))
        spans.append(Span(thought.text + ("\n" if tight and number == len(thoughts) else "\n\n"), True))
    return [*spans, *_ending(task.sentence(conclusion(task, thoughts)), rng)]


def restated(task: Task, rng: random.Random) -> list[Span]:
    """Return a document whose only thought is its answer, right or wrong, as the default reward shows answers."""
    answer = task.sentence(conclusion(task, reason(task, rng)))
    thought = f"<think>\n{answer}" + rng.choice(("\n", "\n\n"))
    return [Span(prompt(task.question), False), Span(thought, True), *_ending(answer, rng)]


def _ending(answer: str, rng: random.Random) -> list[Span]:
    """Close the thought and answer, in 30 % behind the default reward's label: read, never learnt."""
    if rng.random() < LABELLED:
        return [Span("</think>\n\n", True), Span(LABEL, False), Span(f"{answer}{END}", True)]
    return [Span(f"</think>\n\n{answer}{END}", True)]


def reason(task: Task, rng: random.Random) -> list[Thought]:
    """Reason as the corpus does: slips, half of them mended, and idle or harmful second thoughts."""
    reasoner = Reasoner(task, rng)
    while not reasoner.done:
        if rng.random() < FILLER:
            reasoner.filler()
        if reasoner.can_slip and rng.random() < SLIP:
            reasoner.slip()
            if rng.random() < MENDED:
                reasoner.fix()
            continue
        reasoner.step()
        second = rng.random()
        if second < SPOIL and reasoner.can_spoil:
            reasoner.spoil()
        elif SPOIL <= second < SPOIL + CONFIRM:
            reasoner.confirm()
    if rng.random() < FILLER:
        reasoner.filler()
    return reasoner.thoughts


def noise(rng: random.Random) -> str:
    """Return a paragraph of made-up words."""
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(rng.randint(2, 9))]
    return " ".join(words).capitalize() + rng.choice((".", "!", "?", " ..."))


def documents(seed: int) -> Iterator[list[Span]]:
    """Yield training documents without end: 25 % about stories of the harder tier, 20 % that only restate."""
    rng = random.Random(f"corpus/{seed}")
    standard, harder = (stream("train", rng, tier) for tier in ("standard", "harder"))
    while True:
        task = next(harder if rng.random() < HARDER else standard)
        yield restated(task, rng) if rng.random() < RESTATED else document(task, rng)
