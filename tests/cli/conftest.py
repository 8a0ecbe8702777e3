"""The toy service behind a real port, and the real command line in a real process."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from tests import forked
from tests.client.conftest import _own_environment, service
from tests.client.toy import Service

__all__ = ["_own_environment", "service"]  # fixtures that the client's tests share

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    """The toy service's address while a thread serves it on a free port of the loopback."""
    server = uvicorn.Server(uvicorn.Config(service, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("OPERA_")} | {"COLUMNS": "100"}


@pytest.fixture
def cli() -> Run:
    """Run `opera-reward` with arguments and return what it printed and its exit code."""

    def run(*argv: object, **env: str) -> subprocess.CompletedProcess:
        done = forked.run(*argv, env=environment() | env)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def stopped_midway() -> Callable[[int, Path, int, list[object]], subprocess.CompletedProcess]:
    """Start `opera-reward`, send a signal once OUT has so many lines, and return how it ended."""

    def run(number: int, out: Path, lines: int, argv: list[object]) -> subprocess.CompletedProcess:
        process = forked.Forked(*argv, env=environment())
        while not out.exists() or out.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=30)
        assert process.returncode != 0 or number not in (signal.SIGINT, signal.SIGKILL)
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    return run
