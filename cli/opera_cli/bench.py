"""`opera-reward bench NAME`: run one of the repository's benchmarks.

They live in `benchmarks/` of a checkout, not in the wheel: numbers belong to a commit. It knows file names only.
"""

from __future__ import annotations

import runpy
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import opera_service
from opera_cli.apps import LOOK, new_app, run_app
from opera_cli.exits import Exit, say


class Benchmark(StrEnum):
    """What can be measured; a file of `benchmarks/` each."""

    OVERLOAD = "overload"
    SCORING = "scoring"
    SERVING = "serving"


app = new_app()


def run(argv: list[str]) -> int:
    """Measure this machine: `bench scoring`, `bench serving` or `bench overload` (from a checkout)."""
    return run_app(app, argv, "bench")


@app.command(
    # What follows the name is the benchmark's own, its --help, too.
    context_settings={**LOOK, "allow_extra_args": True, "allow_interspersed_args": False},
    no_args_is_help=True,
)
def bench(
    context: typer.Context,
    name: Annotated[
        Benchmark, typer.Argument(help="The benchmark to run. `bench NAME --help` lists its options.")
    ],
) -> None:
    """Measure this machine with a benchmark of the repository; needs a checkout."""
    script = Path(opera_service.__file__).parents[2] / "benchmarks" / f"{name}.py"
    if not script.is_file():
        say(f"{script} is not there: benchmarks are part of the repository, run them from a checkout")
        raise typer.Exit(Exit.BAD_INPUT)
    before = sys.argv, list(sys.path)
    sys.argv = [f"opera-reward bench {name}", *context.args]
    sys.path.insert(0, str(script.parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = before
