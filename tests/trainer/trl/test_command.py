"""The command as users run it: interrupted, repeated, and started by torchrun in two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tests.adapters.gate import serving

from opera_trainer.artefacts import LogEntry, read_rows
from opera_trainer.stage import finished

RUN = {
    "name": "small",
    "threads": 1,
    "tasks": {"synthesis": 0, "train": 32, "validation": 4, "test": 0},
    "synthesis": None,
    "sft": None,
    "grpo": {
        "rollouts": 6, "prompts": 4, "generations": 4, "prompts_per_update": 4, "micro_batch": 8,
        "max_completion_length": 32, "validate_every": 2, "validation_generations": 2,
    },
}  # fmt: skip


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(RUN))
    return path


def started(command: list[str], *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*command, "-m", "opera_cli", "train", *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def children(of: int) -> set[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(of)], capture_output=True, text=True, check=False)
    return set(map(int, found.stdout.split()))


def test_ctrl_c_is_clean_and_the_same_command_goes_on(run_file, tmp_path):
    arguments = ("grpo", run_file, "--out", tmp_path / "out")
    first = started([sys.executable], *arguments)
    assert first.stderr is not None
    said = []
    for line in first.stderr:
        said.append(line)
        if "step" in line and "validation" in line:
            services = children(first.pid)
            first.send_signal(signal.SIGINT)
            break
    rest = first.stderr.read()
    assert first.wait(60) == 130, "".join(said) + rest
    assert "Traceback" not in rest
    assert services
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in services):
        assert time.monotonic() < deadline, "the service outlived the command"
        time.sleep(0.1)

    second = started([sys.executable], *arguments)
    _, said_then = second.communicate(timeout=280)
    assert second.returncode == 0, said_then
    assert "tasks: done before" in said_then
    log = read_rows(tmp_path / "out" / "grpo" / "log.jsonl", LogEntry)
    assert [entry.step for entry in log if "reward" in entry.metrics and entry.split == "train"] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_two_processes_train_one_policy(run_file, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    with serving(engine="torch") as service:
        command = started(
            torchrun, "grpo", run_file, "--out", tmp_path / "out", "--set", f"service.url={service.url}",
            "--set", "grpo.rollouts=2", "--set", "grpo.micro_batch=4",
        )  # fmt: skip
        _, said = command.communicate(timeout=280)
        sizes = [len(group["trajectories"]) for body in service.bodies for group in body["groups"]]
    assert command.returncode == 0, said
    assert said.count("[1/2] tasks") == 1
    assert set(sizes) == {4, 2}  # whole groups, in training and in validation
    assert finished(tmp_path / "out" / "grpo") is not None
    log = read_rows(tmp_path / "out" / "grpo" / "log.jsonl", LogEntry)
    rewarded = [entry for entry in log if entry.split == "train" and "reward" in entry.metrics]
    assert [entry.metrics["opera/scored"] for entry in rewarded] == [1.0, 1.0]


def test_several_processes_without_a_service_are_refused(run_file, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = started(torchrun, "grpo", run_file, "--out", tmp_path / "out")
    _, said = command.communicate(timeout=280)
    assert command.returncode != 0
    assert "service.url: give the address of a service" in said
