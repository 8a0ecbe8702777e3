"""The process in which math-verify runs, so that a hostile expression can only hang or kill itself.

One JSON line `[reference, answer]` in, one `{"equal": bool}` or `{"problem": text}` out. Started by `verifier`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

MEMORY_BYTES = 4 * 2**30
NICENESS = 5
"""Scoring goes first where cores are few: a third of its share is enough for an expression that is not hostile."""


def compare(reference: str, answer: str) -> dict[str, Any]:
    """Say whether two LaTeX (or plain) expressions are the same mathematics."""
    from math_verify import parse, verify

    # The library's own timeouts are signals with handlers; ours is the alarm in `main`, which needs none.
    untimed: Any = None
    try:
        gold = parse(reference, parsing_timeout=untimed, raise_on_error=True)
        if all(isinstance(part, str) for part in gold):
            return {"problem": "the reference is not an expression math-verify can read"}
        found = parse(answer, parsing_timeout=untimed, raise_on_error=True)
        return {"equal": bool(verify(gold, found, timeout_seconds=untimed, raise_on_error=True))}
    except Exception as problem:  # noqa: BLE001 (anything may come out of a computer algebra system)
        return {"problem": f"math-verify failed: {type(problem).__name__}"}


def main(deadline_s: float) -> None:
    """Answer requests until standard input ends; die by SIGALRM when one takes longer than `deadline_s`."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    with suppress(AttributeError, OSError):  # not every platform has priorities
        os.nice(NICENESS)
    with suppress(ImportError, ValueError, OSError):  # not every platform limits memory
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    compare("$1$", "$1$")  # imports and grammar tables are loaded before the first deadline runs
    answers.write("{}\n")
    answers.flush()
    while line := sys.stdin.readline():
        reference, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, deadline_s)
        said = compare(reference, answer)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(json.dumps(said) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]))
