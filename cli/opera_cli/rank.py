"""`opera-reward rank`: a file of candidate branches in, their order out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from opera_cli.batch import Job, Tally, error_of, work
from opera_cli.exits import one_line_errors
from opera_cli.options import Concurrency, Engine, Model, Out, Timeout, Url
from opera_cli.outputs import output_for
from opera_cli.source import RankSource
from opera_cli.target import Target
from opera_client import AsyncRewardClient, OperaError, RankItem
from opera_client.files.journal import Record


def rank(
    file: Annotated[
        Path,
        typer.Argument(
            help="Items to rank, .jsonl or .parquet; - is standard input.", metavar="FILE", show_default=False
        ),
    ],
    out: Out = None,
    url: Url = None,
    engine: Engine = None,
    model: Model = None,
    concurrency: Concurrency = 8,
    timeout: Timeout = 3600.0,
) -> None:
    """Order candidate branches by log-probability, best first.

    A line of FILE is one item, {"prompt", "prefix", "candidates": ["Wait, ...", "But ..."], "by": "branch"},
    `by` being branch, branch_sum, sequence or reference. After an interruption the same command goes on.
    Without --url or OPERA_REWARD_URL, the model runs in this process.

    Exit codes: 0 all ranked; 1 some items failed (they are in OUT with their errors); 2 bad usage or input
    file; 3 service unreachable.
    """
    again = f"; what was ranked is in {out}, run the same command again to go on" if out else ""
    with one_line_errors("rank", interrupted=f"interrupted{again}"):
        source = RankSource(file)
        tally = Tally("candidates")

        def seen(record: Record) -> None:
            tally.add([record] if record["status"] == "error" else record["candidates"])

        job = Job(_ask, _failed, "rank", source, {})
        target = Target(url, engine, model, concurrency, timeout)
        asyncio.run(work(job, target, output_for(out, file, seen), tally))
    raise typer.Exit(tally.code)


async def _ask(client: AsyncRewardClient, item: RankItem, weight_version: str) -> Record:
    result = await client.rank([item], weight_version=weight_version)
    return result.items[0].model_dump(mode="json", exclude_unset=True)


def _failed(item: RankItem, error: OperaError) -> Record:
    return {"id": item.id, "status": "error", "ranking": [], "candidates": [], "error": error_of(error)}
