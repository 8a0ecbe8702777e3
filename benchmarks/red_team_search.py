"""An attacker that learns: it composes a response from sentences it has at hand, to maximise the reward.

It does not know the reference. It has the prompt, the honest thought, answers to other prompts, and sentences that
fit everywhere, as a policy has that explores; each round it keeps the best of one more sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opera_service.check.attacks import JUNK, UNHELPFUL, Material

Score = Callable[[Sequence[str]], Sequence[float]]
"""What responses are paid beside the honest ones."""


def pool(material: Material) -> list[str]:
    """Return the sentences that the attacker may use."""
    own = [paragraph for paragraph in material.thought.split("\n\n") if paragraph.strip()]
    return [*own, material.prompt, material.other_answer, *UNHELPFUL.values(), JUNK["count"], "Yes.", "In short:"]


def search(material: Material, score: Score, rounds: int = 3) -> tuple[str, float]:
    """Return the best answer found behind the honest thought, and what it is paid."""
    best, paid = "", 0.0
    for _ in range(rounds):
        tried = [f"{best} {sentence}".strip() for sentence in pool(material)]
        scores = score([material.response(material.thought, answer) for answer in tried])
        at = max(range(len(tried)), key=lambda index: scores[index])
        if scores[at] <= paid:
            break
        best, paid = tried[at], scores[at]
    return best, paid
