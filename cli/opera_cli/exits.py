"""How a command ends: the exit codes, and one line on stderr for everything that is the user's to mend."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from opera_client.errors import OperaError, RequestError, ServiceError


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


class BadInput(Exception):
    """Something the user gave cannot be used; the message is one line that names it and the remedy."""


_EXTRAS = {"plotly": "plot", "pyarrow": "parquet", "vllm": "vllm", "ray": "ray", "trl": "trl"}


def missing_extra(error: ModuleNotFoundError, what: str) -> BadInput:
    """Return the line that says which extra brings the missing module."""
    module = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(module, "server")
    return BadInput(f"{what} needs {module or 'a package'}: pip install 'opera-reward[{extra}]'")


def say(line: str) -> None:
    """Print one line to stderr."""
    print(line, file=sys.stderr, flush=True)


def code_of(error: OperaError) -> Exit:
    """Return the exit code of an error that ended the whole command."""
    if isinstance(error, RequestError):
        return Exit.BAD_INPUT
    if isinstance(error, ServiceError) and error.code == "not_supported":
        return Exit.BAD_INPUT
    return Exit.UNREACHABLE


@contextmanager
def one_line_errors(command: str, *, interrupted: str = "interrupted") -> Iterator[None]:
    """Turn what the user can mend into one line and an exit code; anything else is a defect and shows itself."""
    try:
        yield
    except BadInput as error:
        say(f"opera-reward {command}: {error}")
        raise typer.Exit(Exit.BAD_INPUT) from None
    except OperaError as error:
        field = f" (field {error.field})" if error.field else ""
        say(f"opera-reward {command}: {' '.join(error.message.split())}{field}")
        raise typer.Exit(code_of(error)) from None
    except KeyboardInterrupt:
        say(f"\nopera-reward {command}: {interrupted}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our stdout has left; keep the interpreter from complaining while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.BROKEN_PIPE) from None
