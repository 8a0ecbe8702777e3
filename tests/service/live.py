"""A real `opera-reward serve` in a process of its own, on a free loopback port."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.forked import Forked

COMMAND = [str(Path(sys.executable).with_name("opera-reward")), "serve"]


@dataclass(frozen=True)
class Live:
    """A server that has said it is ready."""

    url: str
    line: str
    process: Forked | subprocess.Popen[str]


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of the service; no route is measured."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPERA_")}
    return {**kept, "HF_HUB_OFFLINE": "1", "OPERA_ROUTE_MEASURE_S": "0", **more}


@contextmanager
def live(*flags: str, command: Sequence[str] | None = None) -> Iterator[Live]:
    """Start a server with `flags`, forked or by `command`; it is stopped with SIGTERM unless it has left."""
    argv = ["--port", "0", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        Forked("serve", *argv, env=environment())
        if command is None
        else subprocess.Popen([*command, *argv], env=environment(), **pipes)
    ) as process:
        line = process.stdout.readline()
        found = re.search(r"https?://\S+", line)
        if not found:
            process.kill()
            raise AssertionError(f"no URL in {line!r}; stderr: {process.stderr.read()}")
        try:
            yield Live(found[0], line, process)
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)
