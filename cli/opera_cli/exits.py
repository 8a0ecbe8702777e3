"""How a command ends: the exit codes, and one line on stderr for everything that is the user's to mend."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from opera_client.errors import BadInput, OperaError, RequestError, ServiceError, Unauthorized


class Exit(IntEnum):
    """What a shell sees."""

    OK = 0
    SOME_FAILED = 1
    """Some items failed; they are in OUT with their errors."""
    BAD_INPUT = 2
    """Bad usage or input file."""
    UNREACHABLE = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141


def say(line: str) -> None:
    """Print one line to stderr."""
    print(line, file=sys.stderr, flush=True)


def code_of(error: OperaError) -> Exit:
    """Return the exit code of an error that ended the whole command."""
    if isinstance(error, RequestError | BadInput):
        return Exit.BAD_INPUT
    if isinstance(error, ServiceError) and error.code == "not_supported":
        return Exit.BAD_INPUT
    return Exit.UNREACHABLE


@contextmanager
def one_line_errors(command: str, *, interrupted: str = "interrupted") -> Iterator[None]:
    """Turn what the user can mend into one line and an exit code; anything else is a defect and shows itself."""
    try:
        yield
    except OperaError as error:
        field = f" (field {error.field})" if error.field else ""
        variable = "OPERA_ADMIN_KEY" if command.startswith("weights") else "OPERA_API_KEY"
        key = f"; set {variable}" if isinstance(error, Unauthorized) else ""
        say(f"opera-reward {command}: {' '.join(error.message.split())}{field}{key}")
        raise typer.Exit(code_of(error)) from None
    except KeyboardInterrupt:
        say(f"\nopera-reward {command}: {interrupted}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        leave_stdout()
        raise typer.Exit(Exit.BROKEN_PIPE) from None


def leave_stdout() -> None:
    """Give up a stdout that takes nothing more, so that the interpreter does not complain while it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
