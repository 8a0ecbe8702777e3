"""Which traces SFT may learn from, and why the others may not. Knows finished searches, no service."""

from __future__ import annotations

from typing import Literal

from opera_trainer.artefacts import Task, Trace
from opera_trainer.settings.synthesis import FilterSettings
from opera_trainer.synthesis.search import Found
from opera_trainer.tasks.checks import is_right

Reason = Literal["empty", "answer_cut", "gain", "explained", "logprob", "idle", "repetition", "check"]
NGRAM = 6
"""Words; one calculation of the little world is about as long, and may come twice."""


def trace_of(task: Task, found: Found) -> Trace:
    """Return a finished search as a trace."""
    return Trace(
        task_id=task.id,
        prompt=task.prompt,
        reference=task.reference,
        thought=found.thought,
        answer=found.answer,
        response=found.response,
        gain=round(found.prices[-1] - found.prices[0], 4),
        right=is_right(task, found.response),
    )


def dropped(trace: Trace, found: Found, settings: FilterSettings) -> Reason | None:
    """Return the first filter that a trace fails, None when it is kept."""
    if not found.paragraphs or not found.answer:
        return "empty"
    if not found.answered:
        return "answer_cut"
    if settings.min_gain is not None and trace.gain < settings.min_gain:
        return "gain"
    if settings.min_explained is not None and trace.gain < round(settings.min_explained * -found.prices[0], 4):
        return "explained"
    if settings.min_logprob is not None and found.prices[-1] < settings.min_logprob:
        return "logprob"
    if settings.max_idle is not None and idle(found) > settings.max_idle:
        return "idle"
    if settings.max_repetition is not None and repetition(trace.thought) > settings.max_repetition:
        return "repetition"
    return "check" if settings.check and trace.right is False else None


def idle(found: Found) -> float:
    """Return the share of paragraphs after which the reference is no likelier than before."""
    pairs = list(zip(found.prices, found.prices[1:], strict=False))
    return sum(after <= before for before, after in pairs) / len(pairs) if pairs else 0.0


def repetition(text: str) -> float:
    """Return the share of a text's n-grams of words that stood in it before."""
    words = text.casefold().split()
    grams = [tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
