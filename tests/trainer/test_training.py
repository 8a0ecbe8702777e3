"""What SFT and GRPO share: batch arithmetic, complete checkpoints, logs without NaN, lines of progress."""

from types import SimpleNamespace

import pytest

from opera_client.errors import BadInput
from opera_trainer.artefacts import LogEntry, read_rows
from opera_trainer.training import Lines, accumulation, last_checkpoint, write_log


@pytest.mark.parametrize(("world", "rows", "micro", "expected"), [(1, 64, 64, 1), (1, 64, 16, 4), (32, 128, 1, 4)])
def test_accumulation_makes_the_rows_of_all_devices(monkeypatch, world, rows, micro, expected):
    monkeypatch.setenv("WORLD_SIZE", str(world))
    assert accumulation(rows, micro, what="rows") == expected
    assert expected * micro * world == rows


def test_a_batch_that_cannot_be_made_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(BadInput, match=r"grpo\.prompts_per_update: 64 rows cannot be made of micro_batch=8 on 3"):
        accumulation(64, 8, what="grpo.prompts_per_update")


def test_the_newest_complete_checkpoint_counts(tmp_path):
    assert last_checkpoint(tmp_path / "nowhere") is None
    for step, state in ((2, "{}"), (10, "{}"), (20, '{"global_st'), (30, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_logs_keep_numbers_that_are_numbers(tmp_path):
    history = [
        {"step": 1, "reward": 0.5, "loss": float("nan"), "note": "text"},
        {"step": 1, "eval_reward": 0.7, "eval_opera/level": 0.1},
    ]
    write_log(history, tmp_path / "log.jsonl")
    assert list(read_rows(tmp_path / "log.jsonl", LogEntry)) == [
        LogEntry(step=1, split="train", metrics={"reward": 0.5}),
        LogEntry(step=1, split="validation", metrics={"reward": 0.7, "opera/level": 0.1}),
    ]


def test_lines_come_every_ten_seconds_and_at_validation():
    now = iter([0.0, 1.0, 5.0, 12.0, 13.0, 20.0])
    said: list[str] = []
    lines = Lines(said.append, ("reward",), lambda: next(now))
    state = SimpleNamespace(global_step=0, max_steps=4, is_world_process_zero=True)
    lines.on_train_begin(None, state, None)
    logged = [(1, "reward"), (2, "reward"), (3, "reward"), (3, "eval_reward"), (4, "reward")]
    for step, name in logged:
        state.global_step = step
        lines.on_log(None, state, None, logs={name: step / 10})
    assert [line.split()[1] for line in said] == ["1/4", "3/4", "3/4", "4/4"]
    assert ["validation" in line for line in said] == [False, False, True, False]
    assert said[1].endswith("reward 0.300")
    assert "4 s left" in said[1]  # three steps in 12 seconds, one to go
