"""`opera-reward train ablate` in small: cells share a start, the table is written, a second call only reads."""

from __future__ import annotations

import json

import pytest
import yaml

from opera_trainer.cli import run

pytestmark = pytest.mark.timeout(900)

RUN = {
    "name": "small",
    "threads": 1,
    "tasks": {"synthesis": 0, "train": 8, "validation": 0, "test": 4},
    "synthesis": None,
    "sft": None,
    "grpo": {
        "rollouts": 1, "prompts": 2, "generations": 4, "prompts_per_update": 2, "micro_batch": 8,
        "max_completion_length": 32, "select_by": [],
    },
    "evaluation": {"samples": 2, "max_tokens": 32, "resamples": 100},
    "ablation": {
        "seeds": [0, 1],
        "cells": [
            {"name": "paper", "note": "as released", "grpo": {"reward": {"preset": "paper"}}},
            {"name": "random", "grpo": {"scorer": {"model": "random"}}},
        ],
    },
}  # fmt: skip


def test_cells_are_trained_measured_and_listed(tmp_path, capsys):
    path, out = tmp_path / "run.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(RUN))
    arguments = ["ablate", str(path), "--out", str(out)]
    assert run([*arguments, "--only", "paper", "--seeds", "0"]) == 0
    page = (out / "ablation.md").read_text()
    assert "| `paper`: as released | 0 |" in page
    assert "Not run: paper at seed 1, random at seed 0, random at seed 1." in page

    assert run([*arguments, "--seeds", "0"]) == 0
    said = capsys.readouterr().err
    assert said.count("evaluate-base: done before") == 2
    assert said.count("] grpo: done before") == 1
    found = json.loads((out / "ablation.json").read_text())
    assert [(one["cell"], one["seed"]) for one in found["outcomes"]] == [("paper", 0), ("random", 0)]
    assert found["missing"] == ["paper at seed 1", "random at seed 1"]
    starts = {json.dumps(one["before"], sort_keys=True) for one in found["outcomes"]}
    assert len(starts) == 1  # the same start
