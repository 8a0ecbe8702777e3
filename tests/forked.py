"""`opera-reward` in a process forked from one that has imported it, which starts in a quarter of the time.

Signals, streams, environment and exit codes are those of a process that was started anew. Some tests of `serve`
and `score` do start one anew.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.reduction import DupFd

FORKING = get_context("forkserver")
FORKING.set_forkserver_preload(
    ["opera_cli.main", "opera_service.server.app", "opera_service.server.command", "httpcore", "uvicorn"]
)


def _become(argv: list[str], environment: dict[str, str], stdout: DupFd, stderr: DupFd) -> None:
    for stream, number in ((stdout, 1), (stderr, 2)):
        os.dup2(stream.detach(), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["opera-reward", *argv]
    from opera_cli.main import main

    main()


class Forked:
    """What tests need of `subprocess.Popen`, with text pipes for both outputs and no input."""

    def __init__(self, *argv: object, env: Mapping[str, str]) -> None:
        pipes = os.pipe(), os.pipe()
        self.args = list(map(str, argv))
        self._process = FORKING.Process(
            target=_become, args=(self.args, dict(env), *(DupFd(writer) for _, writer in pipes))
        )
        self._process.start()
        for _, writer in pipes:
            os.close(writer)
        self.stdout, self.stderr = (os.fdopen(reader) for reader, _ in pipes)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self.stdout.close()
        self.stderr.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        with ThreadPoolExecutor(2) as readers:
            said = [readers.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()  # or the readers would wait with us
                raise
            return said[0].result(), said[1].result()


def run(*argv: object, env: Mapping[str, str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run `opera-reward` with arguments to its end."""
    with Forked(*argv, env=env) as process:
        stdout, stderr = process.communicate(timeout)
        return subprocess.CompletedProcess(process.args, process.wait(), stdout, stderr)
