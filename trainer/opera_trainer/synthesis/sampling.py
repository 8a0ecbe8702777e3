"""Plain sampling: what the model writes to a question by itself, as the measure for the search. No network."""

from __future__ import annotations

from collections.abc import Generator

from opera_client.wire import ExpandItem, ExpandItemResult
from opera_trainer.artefacts import Row, Task
from opera_trainer.lockstep import Answer, Ask
from opera_trainer.seeds import seed_of
from opera_trainer.settings.synthesis import SynthesisSettings


class Sampled(Row):
    """Responses of the model alone."""

    task_id: str
    responses: list[str]


def sample(task: Task, settings: SynthesisSettings, seed: int) -> Generator[Ask, Answer, Sampled]:
    """Sample as many responses as the search has candidates, at its temperature."""
    answer = yield ExpandItem(
        prompt=task.prompt,
        n=settings.candidates,
        max_tokens=settings.step_tokens * settings.max_steps,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        seed=seed_of(seed, task.id, -2),
    )
    assert isinstance(answer, ExpandItemResult)
    return Sampled(task_id=task.id, responses=[branch.text for branch in answer.candidates])
