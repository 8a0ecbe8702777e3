"""`opera-reward check FILE`: is this reward fit to train on these data with this model?

Knows arguments and exit codes: 0 fit, 1 warnings, 2 unfit, or bad usage or input; 3 the service is unreachable.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from opera_cli.apps import new_app, run_app
from opera_cli.exits import one_line_errors
from opera_cli.options import Url, parse_config
from opera_cli.target import Target
from opera_cli.written import must_be_writable
from opera_client.errors import BadInput

Pair = tuple[float, float] | None
_GRADES = "a trajectory may have a `grade` and a `finish_reason`, a group `preferences`: pairs [better, worse]"


def _threshold(share: str, side: str) -> Any:
    return typer.Option(
        metavar="WARN UNFIT", help=f"The share of {share}: {side} WARN warns, {side} UNFIT is unfit."
    )


@dataclass(frozen=True)
class Asked:
    """What is to be checked, against which thresholds, and where the findings go."""

    file: Path
    settings: dict[str, Any]
    thresholds: dict[str, tuple[float, float]]
    groups: int
    attacked: int
    journal: Path | None
    json: Path | None
    html: Path | None


app = new_app()


def run(argv: list[str]) -> int:
    """Say whether this reward is fit for these data and this model, before you pay for a run."""
    return run_app(app, argv, "check")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=f"Groups, .jsonl or .parquet; {_GRADES}.")],
    url: Url = None,
    engine: Annotated[
        Literal["torch", "dummy"] | None, typer.Option(help="The engine to run in this process, without --url.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model to run in this process, without --url: a path, a Hugging Face id, smollm2, or demo."
        ),
    ] = None,
    reward: Annotated[str, typer.Option(help="A reward of the registry.")] = "opera",
    preset: Annotated[str, typer.Option(help="A preset of that reward.")] = "hardened",
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Override a field of the configuration. May be repeated."),
    ] = None,
    groups: Annotated[int, typer.Option(help="Check at most this many groups.")] = 32,
    attacked: Annotated[int, typer.Option(help="Attack at most this many of those groups.")] = 8,
    json: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the findings as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="OUT", help="Write the findings as one page.")] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep what was scored in this file. The same command goes on where it ended."
        ),
    ] = None,
    informative: Annotated[Pair, _threshold("groups that carry information", "below")] = None,
    farmed: Annotated[Pair, _threshold("a family's attacks that earn more than the honest best", "above")] = None,
    agreement: Annotated[Pair, _threshold("graded pairs that are in order", "below")] = None,
    gated: Annotated[Pair, _threshold("responses that fail the format", "above")] = None,
    enough: Annotated[
        Pair,
        typer.Option(
            metavar="WARN UNFIT", help="Groups to check: fewer than WARN warns, fewer than UNFIT is unfit."
        ),
    ] = None,
) -> None:
    """Say whether this reward is fit for these data and this model, before you pay for a run.

    Exit codes: 0 fit; 1 warnings; 2 unfit, or bad usage or input; 3 service unreachable.
    """
    again = f"; run the same command again to go on ({journal})" if journal else ""
    with one_line_errors("check", interrupted=f"interrupted{again}"):
        if groups < 1 or attacked < 0:
            raise BadInput("--groups must be at least 1, --attacked at least 0")
        settings: dict[str, Any] = {
            "reward": reward,
            "preset": preset,
            "config": parse_config(config or []),
            "detail": "reward",
        }
        given = {
            "informative": informative,
            "farmed": farmed,
            "agreement": agreement,
            "gated": gated,
            "enough": enough,
        }
        thresholds = {name: pair for name, pair in given.items() if pair is not None}
        for name, pair in thresholds.items():
            if any(math.isnan(one) for one in pair):  # nothing is above or below it: all would be fit
                raise BadInput(f"--{name} needs two numbers, not nan")
        outputs = {"--json": json, "--html": html, "--journal": journal}
        for name, path in outputs.items():
            others = {f"what {one} writes": other for one, other in outputs.items() if one != name}
            if path is not None:
                must_be_writable(path, name, others={"the input file": file, **others})
        asked = Asked(file, settings, thresholds, groups, attacked, journal, json, html)
        try:
            code = asyncio.run(_check(asked, Target(url, engine, model, concurrency=1)))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise BadInput(f"cannot write {error.filename or 'to standard output'}: {error.strerror}") from None
    raise typer.Exit(code)


async def _check(asked: Asked, target: Target) -> int:
    # Only here: `--help` needs no numpy and no progress bar.
    from rich.console import Console
    from rich.progress import Progress

    from opera_service.check import measuring, report
    from opera_service.check.findings import Thresholds, findings
    from opera_service.check.samples import read

    samples = read(asked.file, asked.groups)
    attacked = min(asked.attacked, len(samples))
    console = Console(stderr=True)
    async with target.opened() as client:
        served = await client.model()
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("scoring", total=len(samples) + attacked)
            measured = await measuring.measure(
                client,
                samples,
                asked.settings,
                attacked=asked.attacked,
                journal=measuring.Journal(asked.journal),
                advance=lambda: progress.advance(bar),
            )
    found = findings(measured, Thresholds(**asked.thresholds))
    responses, config = sum(len(one.group.trajectories) for one in samples), asked.settings["config"]
    about = {
        "Model": f"{served.name}, {served.dtype}, {served.engine}",
        "Reward": f"{asked.settings['reward']}, {asked.settings['preset']}" + (f", {config}" if config else ""),
        "Data": f"{asked.file}: {len(samples)} groups, {responses} responses, {attacked} groups attacked",
    }
    out = Console(highlight=False)
    report.show(out if out.is_terminal else Console(highlight=False, width=130), about, found)
    if asked.json is not None:
        report.write_json(asked.json, about, found)
    if asked.html is not None:
        report.write_page(asked.html, about, found)
    return {"ok": 0, "warning": 1, "unfit": 2}[report.verdict(found)]
