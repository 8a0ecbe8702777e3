"""The example and the learning benchmark run as a user runs them, shortened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def script(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_example_logs_every_component(service, tmp_path: Path) -> None:
    said = script("examples/trl_grpo.py", "--url", service.url, "--steps", "2", "--out", str(tmp_path))
    lines = [line for line in said.splitlines() if "opera/relative" in line]
    assert len(lines) == 2
    assert all("'opera/scored': '1'" in line for line in lines)


def test_self_distillation_has_a_gradient_of_its_own(gate, tmp_path: Path) -> None:
    """Rewards are all 0, so whatever moves the weights is the tokens' own advantage."""
    gate.open()
    said = script("examples/trl_self_distillation.py", "--url", gate.url, "--steps", "2", "--out", str(tmp_path))
    lines = [line for line in said.splitlines() if "opera/mean_difference" in line]
    assert len(lines) == 2
    norms = [float(line.split("'grad_norm': '")[1].split("'")[0]) for line in lines]
    assert min(norms) > 0


def test_the_learning_benchmark_measures_before_and_after(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    script("benchmarks/grpo_demo.py", "--steps", "2", "--count", "8", "--preset", "paper", "--json", str(out))
    report = json.loads(out.read_text())
    assert {"sampled", "greedy"} == set(report["before"]) == set(report["after"])
    assert len(report["log"]) == 2
    assert report["curve"][0]["opera/scored"] == 1
    assert 0 <= report["curve"][0]["watched/exact"] <= 1
