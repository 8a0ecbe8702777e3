"""The red team's tasks: prompts of our own wording, graded honest responses, an independent second reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent / "data" / "red_team"


@dataclass(frozen=True)
class Honest:
    """A response that somebody meant."""

    grade: str
    """`good`, `medium` or `weak`."""
    thought: str
    answer: str


@dataclass(frozen=True)
class Task:
    """One open-ended prompt."""

    id: str
    prompt: str
    reference: str
    second_reference: str
    twin: str
    """The reference's wording with a falsehood in it."""
    honest: tuple[Honest, ...]
    """Best first."""


@dataclass(frozen=True)
class Question:
    """A prompt whose answer is one phrase."""

    id: str
    prompt: str
    reference: str
    right: tuple[str, ...]
    """The phrase itself, then a sentence that holds it."""
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """A prompt with attacks that were written by hand after the reward's form was chosen."""

    id: str
    prompt: str
    reference: str
    good: Honest
    attacks: tuple[tuple[str, str, str], ...]
    """Kind, thought and answer of each; the thought is the good response's where the attack has none."""


def held_out() -> list[HeldOut]:
    """Return the attacks that nothing was tuned on."""
    return [_held_out(one) for one in _read("held_out")]


def _held_out(one: dict[str, Any]) -> HeldOut:
    good = Honest("good", one["good"]["thought"].strip(), one["good"]["answer"].strip())
    made = tuple(
        (attack["kind"], attack.get("thought", good.thought).strip(), attack["answer"].strip())
        for attack in one["attacks"]
    )
    return HeldOut(one["id"], one["prompt"], one["reference"].strip(), good, made)


def open_tasks() -> list[Task]:
    """Return the open-ended tasks: English, Chinese, code."""
    return [_task(one) for name in ("open_english", "open_chinese_and_code") for one in _read(name)]


def questions() -> list[Question]:
    """Return the questions with one right phrase."""
    return [
        Question(**{**one, "right": tuple(one["right"]), "wrong": tuple(one["wrong"])}) for one in _read("short")
    ]


def _read(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    return found


def _task(one: dict[str, Any]) -> Task:
    honest = tuple(Honest(h["grade"], h["thought"].strip(), h["answer"].strip()) for h in one["honest"])
    texts = {key: one[key].strip() for key in ("id", "prompt", "reference", "second_reference", "twin")}
    return Task(**texts, honest=honest)
