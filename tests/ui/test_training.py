"""A real GRPO run by TRL, watched: the example trains the embedded model, the page follows and says what TRL logs.

TRL lives in an environment of its own, whose Python `OPERA_TEST_TRL_PYTHON` names; `make test-ui` has it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.ui.conftest import until

PYTHON = os.environ.get("OPERA_TEST_TRL_PYTHON")
ROOT = Path(__file__).parents[2]
STEPS = 4
RUN = "trl-grpo"

pytestmark = [
    pytest.mark.skipif(PYTHON is None, reason="OPERA_TEST_TRL_PYTHON names no Python with TRL"),
    pytest.mark.timeout(600),
]


@contextmanager
def training(url: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    given = {"--url": url, "--steps": str(STEPS), "--run-id": RUN, "--out": str(folder)}
    command = [str(PYTHON), "examples/trl_grpo.py", *(word for pair in given.items() for word in pair)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def logged(folder: Path) -> list[dict]:
    """What TRL printed of every step."""
    lines = [line for line in (folder / "log").read_text().splitlines() if line.startswith("{")]
    return [one for one in map(ast.literal_eval, lines) if "reward" in one]


def test_a_real_training_is_followed_live(serve, open_page, tmp_path):
    served = serve("--audit-texts")
    page = open_page(served)
    page.get_by_text("Nothing was rewarded yet").wait_for()
    page.evaluate("window.same = true")  # gone, had the page been loaded again
    seen = []
    with training(served.url, tmp_path) as process:
        for step in range(STEPS):
            known = page.get_by_text(re.compile(f"^steps 0 to [{step}-9]$"))
            until(lambda known=known: known.count() == 1 or process.poll() not in (None, 0), 240)
            seen.append(process.poll() is None)
        assert process.wait(240) == 0, (tmp_path / "log").read_text()[-2000:]
    assert all(seen[:-1]), "the page knew of each step before the training was over"
    assert page.evaluate("window.same")
    said = logged(tmp_path)
    assert len(said) == STEPS
    page.locator(".badge.complete", has_text=f"{2 * STEPS} whole").wait_for()
    page.get_by_text(f"{16 * STEPS} trajectories", exact=True).wait_for()
    # The mean of the last step on the page is TRL's own, which came from the answers to its own requests.
    shown = page.locator(".charts .tall .chart-values b").inner_text().replace("−", "-")
    assert float(shown) == pytest.approx(float(said[-1]["reward"]), abs=2e-3)

    page.locator(".charts .tall svg").click()
    page.locator(".group-row").first.click()
    page.locator(".member").nth(7).wait_for()
    assert page.locator(".member").count() == 8
    assert re.search(r"#/group/\d+", page.url)
