"""A real service in a process of its own, and the page in a real Chromium, headless.

`make test-ui` has both; elsewhere these tests are left out. A page may not write an error to its console, nor ask
anybody but its service: that is checked after every test.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

CHROMIUM = os.environ.get("OPERA_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if find_spec("playwright") is None or CHROMIUM is None:
    collect_ignore_glob = ["test_*.py"]

COMMAND = os.environ.get("OPERA_REWARD_COMMAND", str(Path(sys.executable).with_name("opera-reward"))).split()
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@dataclass
class Served:
    """A running service."""

    url: str
    process: subprocess.Popen[str]
    key: str | None = None
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=120)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def reward(self, run: str, step: int | None, *groups: dict, **more) -> dict:
        """Have groups rewarded, as a trainer does."""
        answer = self.client.post("/reward", json={"run_id": run, "step": step, "groups": groups, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def serving(*flags: str, port: int = 0, key: str | None = None) -> Iterator[Served]:
    """Serve the page until the block ends."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPERA_")}
    environment = {**kept, **({"OPERA_API_KEYS": key} if key else {})}
    command = [*COMMAND, "serve", "--ui", "--port", str(port), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the service did not start: {line!r}"
        try:
            yield Served(found[0], process, key)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="session")
def service() -> Iterator[Served]:
    """The embedded model, texts kept."""
    with serving("--audit-texts") as running:
        yield running


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start services of one's own; they end with the test."""
    with ExitStack() as stack:
        yield lambda *flags, **more: stack.enter_context(serving(*flags, **more))


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser):
    """Open the page of a service; afterwards it must have been silent and asked nobody else."""
    contexts, said, asked = [], [], []

    def opened(
        served: Served,
        path: str = "#/",
        *,
        width: int = 1400,
        scheme: str = "light",
        context=None,
        quiet: bool = True,
    ):
        context = context or browser.new_context(
            viewport={"width": width, "height": 900 if width > 600 else 844}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if quiet:
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{served.url}/ui/{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not re.match(r"http://127\.0\.0\.1:\d+/|blob:|data:", url)} == set()


def group(
    name: str, *responses: str, prompt: str = "How many pears?", reference: str = "There are 4 pears."
) -> dict:
    trajectories = [{"id": "abcdefghijklmnop"[at], "response": one} for at, one in enumerate(responses)]
    return {"group_id": name, "prompt": prompt, "reference": reference, "trajectories": trajectories}


def think(*thoughts: str, answer: str = "There are 4 pears.") -> str:
    return "<think>" + "\n\n".join(thoughts) + f"</think>{answer}"


def until(is_so: Callable[[], bool], seconds: float = 20) -> float:
    """Wait until something is so and return how many seconds that took."""
    start = time.monotonic()
    while not is_so():
        assert time.monotonic() - start < seconds, "it never happened"
        time.sleep(0.02)
    return time.monotonic() - start
