"""Typer apps of one look, and one of them as a command of another room: arguments in, exit code out."""

from __future__ import annotations

from typing import Any

import typer

LOOK: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def new_app(about: str | None = None) -> typer.Typer:
    """Return an empty app; one command makes it that command, several are its subcommands."""
    return typer.Typer(
        help=about,
        no_args_is_help=about is not None,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings=LOOK,
    )


def run_app(app: typer.Typer, argv: list[str], command: str) -> int:
    """Run `opera-reward COMMAND` with its arguments; return the exit code, 2 for bad usage."""
    try:
        app(args=argv, prog_name=f"opera-reward {command}")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    return 0
