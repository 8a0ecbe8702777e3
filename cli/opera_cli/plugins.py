"""Commands of other rooms, found by entry point and loaded only when called.

An entry of the group `opera_reward.commands` names a function `run(argv) -> exit code`; the first line of its
docstring is its help, read from the source, so that `--help` imports no engine.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

import typer

from opera_cli.exits import one_line_errors
from opera_client.extras import missing_extra

GROUP = "opera_reward.commands"


def commands() -> Iterator[EntryPoint]:
    """Yield the registered commands by name."""
    yield from sorted(entry_points(group=GROUP), key=lambda entry: entry.name)


def summary(entry: EntryPoint) -> str:
    """Return the first docstring line of a command's function without running its module."""
    try:
        spec = find_spec(entry.module)
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8")) if spec and spec.origin else None
    except (ImportError, OSError, SyntaxError):
        return ""
    for node in tree.body if tree else []:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def call(entry: EntryPoint, argv: list[str]) -> int:
    """Load a command and run it.

    Raises:
        BadInput: it belongs to an extra that is not installed.
    """
    try:
        code: int = entry.load()(argv)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("opera_"):
            raise  # a defect of ours, not a missing extra
        raise missing_extra(error, f"`opera-reward {entry.name}`") from None
    return code


def add_to(app: typer.Typer) -> None:
    """Make every registered command a command of `app`; its arguments and its `--help` are its own."""
    for entry in commands():
        app.command(
            entry.name,
            help=summary(entry),
            add_help_option=False,
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )(_calling(entry))


def _calling(entry: EntryPoint):  # type: ignore[no-untyped-def]
    def run(context: typer.Context) -> None:
        with one_line_errors(entry.name):
            raise typer.Exit(call(entry, context.args))

    return run
