"""Files of rows: whole or not at all, and a broken line is named."""

import pytest

from opera_client.errors import BadInput
from opera_client.wire import Message
from opera_trainer.artefacts import LogEntry, Task, read_rows, write_rows

TASK = Task(id="1", prompt=[Message(role="user", content="Warum? ünï")], reference="Weil.")


def test_rows_come_back(tmp_path):
    path = tmp_path / "tasks.jsonl"
    assert write_rows(path, [TASK, TASK]) == 2
    assert list(read_rows(path, Task)) == [TASK, TASK]


@pytest.mark.parametrize("line", ["{", '{"id": "2"}', "", '{"step": 1, "split": "train", "metrics": {"a": NaN}}'])
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    good = LogEntry(step=0, split="train", metrics={}).model_dump_json()
    path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(BadInput, match=r"rows\.jsonl, line 2: "):
        list(read_rows(path, LogEntry))


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "tasks.jsonl"
    write_rows(path, [TASK])

    def rows():
        yield TASK
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_rows(path, rows())
    assert list(read_rows(path, Task)) == [TASK]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"cannot read .*none\.jsonl"):
        list(read_rows(tmp_path / "none.jsonl", Task))
