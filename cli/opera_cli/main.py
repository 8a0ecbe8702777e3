"""`opera-reward`: the root of the command line."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from opera_cli import plugins
from opera_cli.apps import new_app
from opera_cli.rank import rank
from opera_cli.score import score
from opera_cli.weights import weights


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("opera-reward"))
        raise typer.Exit


def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Rewards for reinforcement learning, read off a language model's own log-probabilities."""


def build() -> typer.Typer:
    """Return the whole command line, plugins included."""
    app = new_app("")
    app.callback()(_root)
    app.command("score")(score)
    app.command("rank")(rank)
    app.add_typer(weights, name="weights")
    plugins.add_to(app)
    return app


def main() -> None:
    """Run the command line and exit with its code."""
    build()(prog_name="opera-reward")
