"""The example runs as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_rollout_prints_a_group_a_prompt(group_service) -> None:
    command = [sys.executable, "examples/openrlhf_rollout.py", "--url", group_service.url, "--prompts", "2"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("reward ")]
    assert len(lines) == 8
    assert all("group_size_seen +4.00  opera_failed +0.00" in line for line in lines)
    assert len(group_service.bodies) == 2
