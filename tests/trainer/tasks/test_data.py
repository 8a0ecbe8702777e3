"""Data sets of prompts and references: read, checked, split. A broken row names its place and its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opera_client.errors import BadInput
from opera_client.wire import Message
from opera_trainer.settings.tasks import TasksSettings
from opera_trainer.tasks.checks import is_right
from opera_trainer.tasks.data import files, identity, split_of
from opera_trainer.tasks.records import records
from opera_trainer.tasks.stage import collected

ROWS = [{"prompt": f"What is {n} + {n}?", "reference": f"It is {2 * n}."} for n in range(200)]


def words(task: Any) -> tuple[int, int]:
    return sum(len(one.content.split()) for one in task.prompt), len(task.reference.split())


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def made(source: Path | str, **more: Any):
    return collected(TasksSettings(source=str(source), synthesis=20, train=50, **more), 0, "words", words)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return jsonl(tmp_path / "rows.jsonl", ROWS)


def test_files_and_card(file: Path):
    tasks, card = made(file)
    assert card.read == 200
    assert card.shared == 0
    assert (len(tasks["synthesis"]), len(tasks["train"])) == (20, 50)
    assert card.files["train"].count == 50
    assert card.files["train"].reference_tokens.most == 3
    assert card.unused == 200 - sum(map(len, tasks.values()))
    assert "harder" not in tasks


def test_jsonl_parquet_and_datasets_are_one(file: Path, tmp_path: Path):
    rows = datasets.Dataset.from_list(ROWS)
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    rows.save_to_disk(str(tmp_path / "saved"))
    expected = made(file)[0]
    assert made(tmp_path / "rows.parquet")[0] == expected
    assert made(tmp_path / "saved")[0] == expected


def test_a_folder_of_files_is_one_source(file: Path, tmp_path: Path):
    expected = made(file)[0]
    folder = tmp_path / "folder"
    folder.mkdir()
    jsonl(folder / "b.jsonl", ROWS[150:])
    datasets.Dataset.from_list(ROWS[:150]).to_parquet(str(folder / "a.parquet"))
    (folder / "README.md").write_text("About these tasks.")
    assert made(folder)[0] == expected


def test_of_a_folder_with_splits_only_the_named_one_is_read(file: Path, tmp_path: Path):
    expected = made(file)[0]
    folder = tmp_path / "folder"
    folder.mkdir()
    jsonl(folder / "test.jsonl", [{"prompt": "A benchmark?", "reference": "Not for training."}])
    jsonl(folder / "train-00000-of-00002.jsonl", ROWS[:90])
    jsonl(folder / "train-00001-of-00002.jsonl", ROWS[90:])
    assert made(folder)[0] == expected
    assert next(records(TasksSettings(source=str(folder), source_split="test"))).fields["prompt"] == "A benchmark?"


def test_a_broken_row_in_a_folder_names_its_file(tmp_path: Path):
    jsonl(tmp_path / "a.jsonl", ROWS[:3])
    path = jsonl(tmp_path / "b.jsonl", [ROWS[3], {"prompt": "Why?"}])
    with pytest.raises(BadInput) as caught:
        made(tmp_path)
    assert str(caught.value).startswith(f"{path}, line 2: reference: is missing")


def test_second_references_are_kept_row_by_row_and_counted(tmp_path: Path):
    rows = [
        {**row, "other": f"The sum is {n}."} if n % 2 else {**row, "other": None} for n, row in enumerate(ROWS)
    ]
    tasks, card = made(jsonl(tmp_path / "rows.jsonl", rows), second_reference_column="other")
    kept = [task.second_reference for task in tasks["train"]]
    assert card.files["train"].second_references == sum(one is not None for one in kept)
    assert {one and one[:10] for one in kept} == {None, "The sum is"}


def test_an_unknown_data_set_says_what_the_loader_said(tmp_path: Path):
    with pytest.raises(
        BadInput, match=r"tasks\.source: .*nowhere is no \.jsonl or \.parquet, no folder .*, and `datasets` says"
    ):
        made(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "Why?"}, "reference: is missing (fields here: prompt)"),
        ({"prompt": "Why?", "reference": 4}, "reference: text is needed, not int"),
        ({"prompt": "  ", "reference": "So."}, "prompt: is empty"),
        ({"prompt": [{"role": "user"}], "reference": "So."}, "prompt.0.content: is missing; give it"),
        ({"prompt": 5, "reference": "So."}, "prompt: must be a list"),
        (
            {"prompt": [{"role": "assistant", "content": "Hm"}], "reference": "So."},
            "prompt: the last message must be one that an assistant answers",
        ),
        (
            {"prompt": "Why?", "reference": "So.", "second_reference": 4},
            "second_reference: text is needed, not int",
        ),
        ({"prompt": "Why?", "reference": "So.", "second_reference": " "}, "second_reference: is empty"),
        (
            {"prompt": "Why?", "reference": "So.", "second_reference": "So. "},
            "second_reference: is reference again",
        ),
        ('{"prompt": "Why?", ', "not JSON"),
        ('{"prompt": "Why?", "reference": NaN}', "reference: text is needed, not float"),
    ],
)
def test_a_broken_row_names_file_line_and_field(tmp_path: Path, row: Any, what: str):
    path = jsonl(tmp_path / "broken.jsonl", [*ROWS[:3], row, *ROWS[3:]])
    with pytest.raises(BadInput) as caught:
        made(path)
    assert str(caught.value).startswith(f"{path}, line 4: {what}")


def test_a_broken_row_of_parquet_names_its_row(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list([*ROWS[:2], {"prompt": "Why?", "reference": None}]).to_parquet(str(path))
    with pytest.raises(BadInput, match=r"row 3: reference: is missing"):
        list(made(path))


def test_duplicates_are_one_task_and_conflicts_are_counted(tmp_path: Path):
    again = {"prompt": "what  IS 1 + 1?", "reference": ROWS[1]["reference"]}
    other = {**ROWS[2], "reference": "Nobody knows."}
    tasks, card = made(jsonl(tmp_path / "rows.jsonl", [*ROWS, again, other]))
    assert card.dropped == {"duplicate": 1, "other_reference": 1}
    references = {task.reference for some in tasks.values() for task in some}
    assert "Nobody knows." not in references


def test_lengths(file: Path):
    _, card = made(file, max_prompt_tokens=5, min_reference_tokens=3, max_reference_tokens=3)
    assert card.dropped == {}, "limits are inclusive"
    with pytest.raises(BadInput, match="leaves nothing to train on: 0 of 200 rows are good"):
        made(file, max_prompt_tokens=4)
    with pytest.raises(BadInput, match="leaves nothing to train on"):
        made(file, min_reference_tokens=4)
    with pytest.raises(BadInput, match="leaves nothing to train on"):
        made(file, max_reference_tokens=2)


def test_chat_columns_kinds_and_checks(tmp_path: Path):
    brief = {"role": "system", "content": "Be brief."}
    rows = [
        {"q": [brief, {"role": "user", "content": f"{n}?"}], "a": "\\boxed{4}", "ability": kind}
        for n, kind in enumerate(["math", "writing"] * 25)
    ]
    tasks, card = made(
        jsonl(tmp_path / "rows.jsonl", rows),
        prompt_column="q", reference_column="a", kind_column="ability", check="math", system="Unused.",
    )  # fmt: skip
    one = tasks["train"][0]
    assert [message.role for message in one.prompt] == ["system", "user"]
    assert one.prompt[0].content == "Be brief."
    kinds = [task.kind for some in tasks.values() for task in some]
    assert kinds.count("math") == 25
    assert card.files["train"].checked == len(tasks["train"])
    assert is_right(one, "<think>5</think>So it is $\\frac{8}{2}$.") is True
    assert is_right(one, "<think>4</think>So it is 5.") is False
    tasks, _ = made(jsonl(tmp_path / "rows.jsonl", ROWS), system="Be kind.")
    assert [message.role for message in tasks["train"][0].prompt] == ["system", "user"]


@given(st.permutations(range(60)), st.integers(0, 100))
def test_splits_and_order_depend_on_the_tasks_alone(order: list[int], seed: int):
    settings = TasksSettings(synthesis=5, train=20)
    tasks = made_up(60)
    expected = files(tasks, settings, seed)
    assert files([tasks[at] for at in order], settings, seed) == expected
    grown = files(made_up(90), settings.model_copy(update={"train": 1000, "test": 1000, "validation": 1000}), seed)
    held_out = {task.id for task in [*expected["validation"], *expected["test"]]}
    assert held_out <= {task.id for name in ("validation", "test") for task in grown[name]}


def made_up(count: int):
    from opera_trainer.artefacts import Task

    prompts = [[Message(role="user", content=f"Question {n}")] for n in range(count)]
    return [Task(id=identity(prompt), prompt=prompt, reference="So.") for prompt in prompts]


def test_case_and_space_do_not_make_another_task_and_roles_do():
    def named(role: str, text: str) -> str:
        return identity([Message(role=role, content=text)])

    assert named("user", "What  is it?\n") == named("user", "what is IT?")
    assert named("user", "What is it?") != named("tool", "What is it?")
    assert identity([Message(role="user", content="a b")]) != identity(
        [Message(role="user", content="a"), Message(role="user", content="b")]
    )


def test_shares_of_the_splits():
    found = [split_of(str(number)) for number in range(4000)]
    assert found.count("train") / 4000 == pytest.approx(0.80, abs=0.03)
    assert found.count("validation") / 4000 == pytest.approx(0.05, abs=0.02)


def test_rows_are_read_lazily(tmp_path: Path):
    path = jsonl(tmp_path / "rows.jsonl", [ROWS[0], "broken"])
    rows = records(TasksSettings(source=str(path)))
    assert next(rows).fields == ROWS[0]
    with pytest.raises(BadInput, match="line 2"):
        next(rows)
