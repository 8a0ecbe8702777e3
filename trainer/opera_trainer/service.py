"""The reward service of a stage: a child process on a free loopback port, or one that runs already.

Knows how to start and stop `opera-reward serve`; the rest goes through its URL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opera_client.errors import BadInput, Unavailable
from opera_trainer.config import RunConfig
from opera_trainer.ranks import world_size

STOP_S = 20.0
"""How long a child may take to drain before it is killed."""


@contextmanager
def serving(config: RunConfig, model: str | Path, *, own: bool = False) -> Iterator[str]:
    """Serve `model` while the block runs; yields the address.

    A service given by `service.url` is used as it is, unless `own` asks for one that serves exactly `model`.

    Raises:
        BadInput: several processes train together, and none should start a service of its own.
        Unavailable: the service did not start; the message ends with what it said.
    """
    settings = config.service
    if settings.url is not None and not own:
        yield settings.url
        return
    if world_size() > 1:
        raise BadInput("service.url: give the address of a service when several processes train together")
    flags = {"engine": settings.engine, "model": str(model), **settings.options, "port": 0, "drain_timeout": 1}
    command = [sys.executable, "-m", "opera_cli", "serve"]
    for name, value in flags.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    with tempfile.TemporaryFile("w+") as complaints:
        child = subprocess.Popen(  # its own group: Ctrl-C is ours to handle
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=_clean(), start_new_session=True
        )
        try:
            yield _address(child, complaints.fileno())
        finally:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()


def _address(child: subprocess.Popen[str], complaints: int) -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    if " at http" not in line:
        child.wait(STOP_S)
        os.lseek(complaints, 0, os.SEEK_SET)
        said = os.read(complaints, 4000).decode(errors="replace").strip().splitlines()
        raise Unavailable(f"the reward service did not start: {said[-1] if said else 'it said nothing'}")
    return line.rsplit(" at ", 1)[1].strip()


def _clean() -> dict[str, str]:
    """Return the environment without variables that would configure another service."""
    return {key: value for key, value in os.environ.items() if not key.startswith("OPERA_")}
