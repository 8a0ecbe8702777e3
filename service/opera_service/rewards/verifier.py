"""Asks math-verify in another process, with a deadline: blocking, restarted when stuck and now and then anyway.

Knows processes and pipes; what is compared and what follows from it is `outcomes`' affair. A service has a
`verifier_pool` of them.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

from opera_client.errors import OutcomeUnavailable

MAX_CHARACTERS = 10_000
MAX_QUESTIONS = 500
"""A process is replaced after so many: what a computer algebra system keeps in its caches is never given back."""


class Question(NamedTuple):
    """Are these two expressions, as math-verify reads them, the same mathematics?"""

    reference: str
    answer: str


class Verifier:
    """One math-verify process, started by the first question. Call it off the event loop."""

    def __init__(self, *, deadline_s: float = 5.0, start_s: float = 60.0) -> None:
        self._deadline_s = deadline_s
        self._start_s = start_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._asked = 0
        """Questions to this process."""

    def equal(self, question: Question) -> bool:
        """Say whether two expressions are the same mathematics.

        Raises OutcomeUnavailable when that cannot be told: an unreadable reference, an expression that is too
        long, takes longer than the deadline, or kills the process.
        """
        if max(map(len, question)) > MAX_CHARACTERS:
            raise OutcomeUnavailable(f"expressions over {MAX_CHARACTERS} characters are not verified")
        with self._lock:
            if self._asked >= MAX_QUESTIONS:
                self._stop()
            self._asked += 1
            said = self._ask(question)
        if "equal" not in said:
            raise OutcomeUnavailable(str(said["problem"]))
        return bool(said["equal"])

    def close(self) -> None:
        """End the process; a later question starts another."""
        with self._lock:
            self._stop()

    def _ask(self, question: Question) -> dict[str, Any]:
        try:
            process = self._started()
            assert process.stdin is not None
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            return self._line(process, self._deadline_s)
        except (TimeoutError, EOFError, OSError):
            self._stop()
            return {"problem": f"math-verify gave no answer within {self._deadline_s:g} s"}

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            worker = "opera_service.rewards.math_worker"
            self._process = subprocess.Popen(
                [sys.executable, "-m", worker, str(self._deadline_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C at the server is not meant for it
            )
            self._line(self._process, self._start_s)
        return self._process

    def _line(self, process: subprocess.Popen[bytes], patience_s: float) -> dict[str, Any]:
        """Return the next line of the worker. Raises TimeoutError, or EOFError when the worker is gone."""
        assert process.stdout is not None
        until = time.monotonic() + patience_s
        while b"\n" not in self._unread:
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise TimeoutError
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                raise EOFError
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def _stop(self) -> None:
        process, self._process, self._unread, self._asked = self._process, None, b"", 0
        if process is not None:
            process.kill()
            process.communicate()
