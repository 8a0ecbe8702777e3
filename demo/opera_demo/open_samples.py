"""What the demo shows of a real model: open-ended prompts and written responses of known quality.

A small pretrained model judges well and writes badly, so these responses were written for the project.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.text import Text

from opera_cli.table import group_table, remarks
from opera_client.wire import Group, Message, RewardResult, Trajectory, texts_of
from opera_demo import show

INTRODUCTION = (
    "Each open-ended prompt has four written responses: a good one, a fair one, one that misses the point, and a "
    "copy of the reference. No judge and no checker: a pretrained model reads each response, and the reward asks "
    "how much less surprising it makes the reference answer.\n"
)
QUALITIES = {"good": "good", "medium": "fair", "off_topic": "misses the point", "copies_reference": "copy"}


@dataclass(frozen=True)
class OpenSample:
    """One prompt with its responses; who wrote how well is for the report, no reward sees it."""

    group: Group
    qualities: Sequence[str]


def draw(count: int, seed: int) -> list[OpenSample]:
    """Return `count` samples, the same ones for the same seed; the first ones for seed 0."""
    lines = resources.files(__package__).joinpath("open.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    if seed:
        random.Random(seed).shuffle(rows)
    return [_sample(row) for row in rows[:count]]


def _sample(row: dict[str, object]) -> OpenSample:
    responses = row["responses"]
    assert isinstance(responses, list)
    group = Group(
        group_id=str(row["id"]),
        prompt=[Message(role="user", content=str(row["prompt"]))],
        reference=str(row["reference"]),
        trajectories=[
            Trajectory(id=chr(ord("a") + place), response=one["text"]) for place, one in enumerate(responses)
        ],
    )
    return OpenSample(group, [QUALITIES[one["quality"]] for one in responses])


def write_graded(path: Path) -> None:
    """Write all samples with grades, as `opera-reward check` takes them; the copy is no honest answer."""
    grades = {QUALITIES["good"]: 3, QUALITIES["medium"]: 2, QUALITIES["off_topic"]: 1}
    with path.open("w", encoding="utf-8") as file:
        for sample in draw(1000, seed=0):
            row = sample.group.model_dump(mode="json", exclude_none=True)
            pairs = zip(row["trajectories"], sample.qualities, strict=True)
            row["trajectories"] = [
                {**one, "grade": grades[quality]} for one, quality in pairs if quality in grades
            ]
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def report(console: Console, samples: Sequence[OpenSample], result: RewardResult) -> None:
    """Print each prompt with its members and what they earned, then who earned what on average."""
    for sample, group in zip(samples, result.groups, strict=True):
        prompt = sample.group.prompt
        asked = prompt if isinstance(prompt, str) or prompt is None else prompt[0].content
        console.print()
        console.print(
            show.facts({"Prompt": str(asked), "Reference": " · ".join(texts_of(sample.group.reference))})
        )
        console.print(group_table(group, more={"written": [Text(one) for one in sample.qualities]}))
        for trajectory in sample.group.trajectories:
            answer = (trajectory.response or "").rpartition("</think>")[2].strip()
            console.print(show.facts({f"Answer {trajectory.id}": answer}, indent=2))
        console.print(*remarks(group), sep="\n")
    console.print(f"\n{verdict(samples, result)}\n")


def verdict(samples: Sequence[OpenSample], result: RewardResult) -> str:
    """Return what each quality earned on average, in one line."""
    paid: dict[str, list[float]] = {}
    for sample, group in zip(samples, result.groups, strict=True):
        for quality, trajectory in zip(sample.qualities, group.trajectories, strict=True):
            if trajectory.reward is not None:
                paid.setdefault(quality, []).append(trajectory.reward)
    means = ", ".join(f"{quality} {fmean(rewards):+.2f}" for quality, rewards in paid.items())
    return (
        f"Mean reward by how the response was written (no reward sees that): {means}. A reward says how close an "
        "answer is to the reference, not whether it is true."
    )
