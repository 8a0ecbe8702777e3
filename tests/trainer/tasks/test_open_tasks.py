"""The open-ended tasks that come with the package: whole, different from each other, and honestly held out."""

import itertools
import json
import re
import shutil
from collections import Counter
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from opera_client.wire import Message
from opera_trainer.artefacts import Task
from opera_trainer.settings.tasks import TasksSettings
from opera_trainer.tasks.data import identity, split_of
from opera_trainer.tasks.stage import collected

KINDS = ["advise", "console", "explain", "plan", "rewrite", "summarise", "write"]
FIELDS = ["id", "kind", "language", "prompt", "reference", "second_reference"]
CHINESE = r"[\u4e00-\u9fff]"


@cache
def tasks() -> list[dict[str, Any]]:
    folder = files("opera_trainer.tasks") / "open"
    lines = [line for kind in KINDS for line in (folder / f"{kind}.jsonl").read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def tokens(text: str) -> list[str]:
    """Words of English, characters of Chinese."""
    return re.findall(rf"{CHINESE}|[a-z0-9'’]+", text.lower())


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def eight_grams(text: str) -> set[tuple[str, ...]]:
    found = tokens(text)
    return {tuple(found[i : i + 8]) for i in range(len(found) - 7)}


def test_there_are_enough_of_every_kind_and_language() -> None:
    kinds = Counter(task["kind"] for task in tasks())
    assert sum(kinds.values()) >= 480
    assert sorted(kinds) == KINDS
    assert min(kinds.values()) >= 40
    assert 40 <= sum(task["language"] == "zh" for task in tasks()) <= 60


def test_every_field_is_there_and_is_text() -> None:
    for task in tasks():
        assert list(task) == FIELDS
        assert all(isinstance(value, str) and value == value.strip() != "" for value in task.values()), task["id"]


def test_ids_are_unique_and_say_the_kind() -> None:
    ids = [task["id"] for task in tasks()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"{task['kind']}-\d{{3}}", task["id"]) for task in tasks())


def test_the_language_is_the_one_that_is_said() -> None:
    for task in tasks():
        for field in FIELDS[3:]:
            assert bool(re.search(CHINESE, task[field])) == (task["language"] == "zh"), task["id"]


def test_lengths_are_those_of_short_everyday_tasks() -> None:
    for task in tasks():
        assert 4 <= len(tokens(task["prompt"])) <= 120, task["id"]
        first, second = len(tokens(task["reference"])), len(tokens(task["second_reference"]))
        most = 200 if task["language"] == "zh" else 125
        assert max(first, second) <= most, task["id"]
        assert max(first, second) <= 2.5 * min(first, second) + 4, task["id"]


def test_no_two_prompts_are_nearly_the_same() -> None:
    sets = [(task["id"], set(tokens(task["prompt"]))) for task in tasks()]
    near = [(a, b) for (a, one), (b, other) in itertools.combinations(sets, 2) if jaccard(one, other) > 0.5]
    assert near == []


def test_the_second_reference_is_no_copy_of_the_first() -> None:
    for task in tasks():
        first, second = task["reference"], task["second_reference"]
        assert not eight_grams(first) & eight_grams(second), task["id"]
        assert jaccard(set(tokens(first)), set(tokens(second))) < 0.7, task["id"]


def test_references_of_different_tasks_share_no_sentence() -> None:
    owner: dict[tuple[str, ...], str] = {}
    for task in tasks():
        for gram in eight_grams(task["reference"]) | eight_grams(task["second_reference"]):
            assert owner.setdefault(gram, task["id"]) == task["id"], gram


def identity_of(task: dict[str, Any]) -> str:
    return identity([Message(role="user", content=task["prompt"])])


@pytest.mark.parametrize(("split", "least"), [("train", 360), ("validation", 20), ("test", 50)])
def test_every_split_has_tasks(split: str, least: int) -> None:
    assert sum(split_of(identity_of(task)) == split for task in tasks()) >= least


def test_the_split_of_a_task_never_changes() -> None:
    """The prompt alone decides: a later task, another seed or another order moves nothing."""
    by_id = {task["id"]: split_of(identity_of(task)) for task in tasks()}
    assert {name: by_id[name] for name in PINNED} == PINNED


def words(task: Task) -> tuple[int, int]:
    return len(tokens(task.prompt[0].content)), len(tokens(task.reference))


def test_the_source_open_gives_every_task_by_its_split() -> None:
    made, card = collected(TasksSettings(source="open", synthesis=100), 0, "words", words)
    assert card.read == len(tasks())
    assert (card.dropped, card.unused, card.shared) == ({}, 0, 0)
    by_prompt = {task["prompt"]: task for task in tasks()}
    for name, some in made.items():
        assert card.files[name].second_references == len(some)
        for task in some:
            source = by_prompt[task.prompt[0].content]
            assert (task.reference, task.second_reference) == (source["reference"], source["second_reference"])
            assert split_of(task.id) == ("train" if name == "synthesis" else name)


def test_a_folder_of_the_users_own_works_alike(tmp_path: Path) -> None:
    shutil.copytree(str(files("opera_trainer.tasks") / "open"), tmp_path / "mine")
    expected, _ = collected(TasksSettings(source="open", synthesis=100), 3, "words", words)
    made, _ = collected(TasksSettings(source=str(tmp_path / "mine"), synthesis=100), 3, "words", words)
    assert made == expected


PINNED = {
    "advise-001": "train",
    "advise-002": "train",
    "advise-033": "validation",
    "advise-049": "validation",
    "advise-006": "test",
    "advise-022": "test",
}
