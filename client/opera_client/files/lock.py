"""One writer an OUT: a lock that the kernel gives back however the process ends. POSIX only, as the service is."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opera_client.errors import BadInput


def claim(file: int, path: Path) -> None:
    """Keep the file or folder that is open as descriptor `file` and stands at `path`, until it is closed.

    Raises `BadInput` when another process keeps it, or has just put another one in its place.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadInput(f"{path} is being written by another command; wait for it, or choose another -o") from None
    except OSError as error:  # some network file systems have no locks
        warning = f"{path} cannot be locked ({error.strerror}); let no other command write it meanwhile"
        print(warning, file=sys.stderr, flush=True)
        return
    if not path.exists() or not os.path.samestat(os.fstat(file), path.stat()):
        raise BadInput(f"{path} was just written by another command; run this one again, or choose another -o")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep a folder within the block. Raises `BadInput`."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        claim(opened, folder)
        yield
    finally:
        os.close(opened)
