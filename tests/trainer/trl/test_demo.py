"""`opera-reward train demo` in small: every stage, the report, the export served, and nothing done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opera_client import RewardClient
from opera_demo.world import tasks
from opera_trainer.cli import run

pytestmark = pytest.mark.timeout(1200)

SMALL = [
    "tasks.synthesis=24", "tasks.train=16", "tasks.validation=4", "tasks.test=8", "synthesis.compare=4",
    "sft.epochs=1", "grpo.rollouts=2", "grpo.prompts=4", "grpo.prompts_per_update=4", "grpo.generations=4",
    "grpo.micro_batch=16", "grpo.validate_every=1", "evaluation.samples=2", "evaluation.resamples=100",
]  # fmt: skip


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("demo")
    assert run(_arguments(folder)) == 0
    return folder


def _arguments(folder: Path) -> list[str]:
    return ["demo", "--out", str(folder), *(part for change in SMALL for part in ("--set", change))]


def test_the_run_ends_in_a_report(out):
    page = (out / "report" / "report.html").read_text()
    assert "https://" not in page.partition("<script")[0]
    report = json.loads((out / "report" / "report.json").read_text())
    assert report


def test_the_exported_folder_is_served(out):
    folder = out / "export" / "model"
    card = (folder / "README.md").read_text()
    assert "| standard | accuracy_sampled |" in card
    assert "24 synthesis, 8 test, 16 train, 4 validation" in card
    task = tasks("test", 1)[0]
    right = f"<think>\n{task.start}\n\n</think>\n\n{task.reference}"
    with RewardClient.in_process(engine="torch", model=str(folder)) as client:
        result = client.reward(
            [
                {
                    "prompt": [{"role": "user", "content": task.question}],
                    "reference": task.reference,
                    "trajectories": [{"response": right}],
                }
            ]
        )
    assert result.groups[0].trajectories[0].status == "ok"


def test_the_same_command_does_nothing_twice(out, capsys):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("done.json") if path.parent.name != "report"}
    assert run(_arguments(out)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().err.count("done before") >= len(before)
