"""`opera-reward score`: a file of groups in, a file of rewards out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from opera_cli.batch import Job, Tally, work
from opera_cli.exits import Exit, one_line_errors
from opera_cli.options import Concurrency, Engine, Model, Out, Timeout, Url, parse_config
from opera_cli.outputs import output_for
from opera_cli.plotting import PlotPage
from opera_cli.score_job import asking, failed, reads_references
from opera_cli.source import GroupSource
from opera_cli.table import show_record
from opera_cli.target import Target
from opera_client import AsyncRewardClient
from opera_client.errors import BadInput
from opera_client.files.journal import Record
from opera_client.files.lines import STANDARD
from opera_client.wire import Detail


def score(
    file: Annotated[
        Path,
        typer.Argument(
            help="Groups or flat rows, .jsonl or .parquet; - is standard input.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    out: Out = None,
    plot: Annotated[Path | None, typer.Option(help="Also write one self-contained HTML page.")] = None,
    reward: Annotated[str, typer.Option(help="A reward of the registry.")] = "opera",
    preset: Annotated[
        str,
        typer.Option(
            help="`hardened`; `hardened-1`: the default before it; `paper`: faithful to the authors' code."
        ),
    ] = "hardened",
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Override a field (a.b=1) of the preset, or several as JSON. Repeatable."
        ),
    ] = None,
    detail: Annotated[
        Detail,
        typer.Option(help="What to keep of how a reward came about: nothing, its segments, or every token."),
    ] = "segments",
    url: Url = None,
    engine: Engine = None,
    model: Model = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 3600.0,
    ray: Annotated[
        bool, typer.Option("--ray", help="Score a file or folder of any size with Ray Data, on a whole cluster.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The engines to run with --ray. The default is one for each GPU, else one for each CPU.",
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0, help="The GPUs of each engine with --ray. The default is 1 where there are any."),
    ] = None,
) -> None:
    """Reward the groups of a file. After an interruption the same command goes on.

    A line of FILE is a group, {"prompt", "reference", "trajectories": [{"response"}, ...]}, or one row of a
    group with `prompt`, `response`, `reference` (rows belong together by `group_id`, else by prompt).
    Without --url or OPERA_REWARD_URL, the model runs in this process.

    Exit codes: 0 all scored; 1 some items failed (they are in OUT with their errors); 2 bad usage or input
    file; 3 service unreachable.
    """
    again = f"; what was scored is in {out}, run the same command again to go on" if out else ""
    with one_line_errors("score", interrupted=f"interrupted{again}"):
        page = PlotPage(plot, source=file, out=out) if plot else None
        settings: dict[str, Any] = {
            "reward": reward, "preset": preset, "config": parse_config(config or []), "detail": detail,
        }  # fmt: skip
        target = Target(url, engine, model, concurrency, timeout)
        if ray:
            raise typer.Exit(_with_ray(file, out, page, settings, target, workers, gpus))
        source = GroupSource(file)
        tally = Tally("trajectories")

        def seen(record: Record) -> None:
            tally.add(record["trajectories"])
            if page is not None:
                page.see(record)

        async def check(client: AsyncRewardClient) -> None:
            if source.without_reference is not None and (name := await reads_references(client, settings)):
                source.must_have_references(name)

        job = Job(asking(settings), failed, "score", source, settings, check)
        show = show_record if sys.stdout.isatty() else None
        asyncio.run(work(job, target, output_for(out, file, seen, show), tally))
        if page is not None:
            page.write([source[position] for position in range(len(page))], total=len(source))
    raise typer.Exit(tally.code)


def _with_ray(
    file: Path, out: Path | None, page: PlotPage | None, settings: dict[str, Any], target: Target,
    workers: int | None, gpus: float | None,
) -> Exit:  # fmt: skip
    from opera_cli.ray_data.run import Workers, score_data_set

    if target.url:
        raise BadInput("--ray runs engines of its own; leave --url and OPERA_REWARD_URL out")
    if out is None:
        raise BadInput("--ray needs -o: a .jsonl or .parquet file, or a folder for the parts")
    if file == STANDARD:
        raise BadInput("--ray reads a file or folder that all workers see, not standard input")
    if page is not None:
        raise BadInput("--plot draws few groups; leave it or --ray out")
    return score_data_set(file, out, settings, target, Workers(workers, gpus)).code
