"""What a model answers to one task: samples at temperature 1 and the greedy response. No network."""

from __future__ import annotations

from collections.abc import Generator

from opera_client.wire import ExpandItem, ExpandItemResult
from opera_trainer.artefacts import Row, Task
from opera_trainer.lockstep import Answer, Ask
from opera_trainer.seeds import seed_of
from opera_trainer.settings.evaluation import EvaluationSettings


class Response(Row):
    """One response."""

    text: str
    token_ids: list[int]


class Responses(Row):
    """All responses to one task; empty ones, which nothing can price, included."""

    task_id: str
    sampled: list[Response]
    greedy: Response


def respond(task: Task, settings: EvaluationSettings, seed: int) -> Generator[Ask, Answer, Responses]:
    """Ask for samples and for the greedy response; `seed` is the run's."""
    sampled = yield ExpandItem(
        prompt=task.prompt, n=settings.samples, max_tokens=settings.max_tokens, seed=seed_of(seed, task.id, -3)
    )
    greedy = yield ExpandItem(prompt=task.prompt, n=1, max_tokens=settings.max_tokens, temperature=0)
    return Responses(task_id=task.id, sampled=_read(sampled), greedy=_read(greedy)[0])


def _read(answer: Answer) -> list[Response]:
    assert isinstance(answer, ExpandItemResult)
    return [Response(text=one.text, token_ids=one.token_ids) for one in answer.candidates]
