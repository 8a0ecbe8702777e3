"""Real TRL trainers on the embedded model and, for GRPO, a real service as a child process.

Without TRL installed nothing here is collected: `make test-trainer` runs it in an environment of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from opera_client.wire import Message
from opera_demo.traces import response, trace
from opera_demo.world import tasks as stories
from opera_trainer.artefacts import Task, Trace, write_rows
from opera_trainer.config import RunConfig
from opera_trainer.stage import Stage, Work

if find_spec("trl") is None:
    collect_ignore_glob = ["test_*.py"]


def task_of(story) -> Task:
    prompt = [Message(role="user", content=story.question)]
    return Task(id=story.key, prompt=prompt, reference=story.reference, check="exact")


def write_tasks(work: Work) -> None:
    write_rows(work.folder / "train.jsonl", [task_of(story) for story in stories("train", 64)])
    write_rows(work.folder / "validation.jsonl", [task_of(story) for story in stories("validation", 8)])


def write_traces(work: Work) -> None:
    """Right reasoning of the world, half of it with a slip mended."""
    rng = random.Random(0)
    rows = []
    for number, story in enumerate(stories("train", 48, seed=1)):
        thoughts = trace(story, rng, "fix" if number % 2 else None)
        text = response([thought.text for thought in thoughts], story.reference)
        inside = text.partition("<think>\n")[2].partition("</think>")[0]
        task = task_of(story)
        rows.append(
            Trace(
                task_id=task.id, prompt=task.prompt, reference=task.reference, thought=inside,
                answer=story.reference, response=text, gain=0.3,
            )
        )  # fmt: skip
    write_rows(work.folder / "traces.jsonl", rows)


@pytest.fixture
def before() -> list[Stage]:
    """Stages that stand in for the data: the world's own tasks and reasoning."""
    return [Stage("tasks", (), {}, write_tasks), Stage("synthesize", (), {}, write_traces)]


@pytest.fixture
def config() -> Callable[..., RunConfig]:
    """A run of a few seconds; the caller's sections win key by key."""

    def build(**sections) -> RunConfig:
        whole = {
            "name": "test",
            "threads": 1,
            "sft": {"epochs": 2, "batch_size": 4, "micro_batch": 4, "save_every": 2},
            "grpo": {
                "rollouts": 4, "prompts": 4, "generations": 4, "prompts_per_update": 4, "micro_batch": 16,
                "validate_every": 2, "max_completion_length": 48,
                # As in demo.yaml: the toy scorer reads thoughts, not answers.
                "reward": {"preset": "hardened-1"}, "select_by": ["opera/level", "opera/consistency"],
            },
        }  # fmt: skip
        for name, section in sections.items():
            whole[name] = {**whole.get(name, {}), **section} if isinstance(section, dict) else section
        return RunConfig.model_validate(whole)

    return build


@pytest.fixture
def quietly() -> Callable[[str], None]:
    return lambda _: None


def digests(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
