"""`opera-reward audit`: the log as Parquet, or scored again with what changed.

Knows arguments and exit codes; a service is only loaded, or asked, to replay.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from opera_cli.apps import new_app, run_app
from opera_cli.exits import Exit, one_line_errors
from opera_cli.options import Engine, Model
from opera_cli.written import must_be_writable
from opera_client.errors import BadInput
from opera_client.extras import missing_extra
from opera_service.audit import store
from opera_service.audit.store import NotAnAuditLog, Window

if TYPE_CHECKING:
    from opera_cli.target import Target
    from opera_service.audit.changes import Changes


def _steps(text: str) -> tuple[int | None, int | None]:
    first, colon, last = text.partition(":")
    try:
        start, stop = (int(part) if part else None for part in (first, last))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not like 10:20, 10:, :20 or 10") from None
    return (start, stop) if colon else (start, start)


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time like 2026-01-31T12:00") from None


Log = Annotated[Path, typer.Argument(metavar="LOG", help="The file that `serve --audit` writes.")]
Run = Annotated[str | None, typer.Option(help="Take only what has this run id.")]
Steps = Annotated[
    Any, typer.Option(parser=_steps, metavar="A:B", help="Take only these trainer steps, A and B included.")
]
Since = Annotated[
    Any,
    typer.Option(
        parser=_time, metavar="TIME", help="Take only what was written since then, such as 2026-01-31T12:00."
    ),
]
Last = Annotated[int | None, typer.Option(min=1, metavar="N", help="Take only the newest N groups of those.")]

app = new_app("Export the audit log to Parquet, or score a part of it again and print what changed.")


def run(argv: list[str]) -> int:
    """Export the audit log to Parquet, or score a part of it again and print what changed."""
    return run_app(app, argv, "audit")


@app.command("export")
def export(
    log: Log,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="OUT.parquet", help="The file to write.")],
    run: Run = None,
    steps: Steps = None,
    since: Since = None,
    last: Last = None,
) -> None:
    """Write the trajectories to a Parquet file."""
    with _opened(log, out, "export") as rows_of:
        try:
            from opera_service.audit.export import export

            rows = export(rows_of, _window(run, steps, since, last), out)
        except ModuleNotFoundError as error:
            raise missing_extra(error, "audit export") from None
        print(f"{out}: {rows} trajectories")


@app.command("replay")
def replay(
    log: Log,
    run: Run = None,
    steps: Steps = None,
    since: Since = None,
    last: Last = None,
    url: Annotated[
        str | None, typer.Option(help="The URL of a running service. The default is OPERA_REWARD_URL.")
    ] = None,
    model: Model = None,
    engine: Engine = None,
    concurrency: Annotated[int, typer.Option(min=1, help="The groups that may be in flight at a time.")] = 8,
    tolerance: Annotated[
        float, typer.Option(help="The difference up to which two rewards count as equal.")
    ] = 1e-6,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT.jsonl", help="Also write every pair of numbers to this file."),
    ] = None,
) -> None:
    """Score logged groups again, by a model in this process or by a running service, and print what changed.

    The log must have been written with --audit-texts.

    Exit codes: 0 all scored again; 1 some not; 2 bad usage or file; 3 service unreachable.
    """
    from rich.console import Console

    from opera_cli.target import Target
    from opera_service.audit.changes import Changes
    from opera_service.audit.report import show

    with _opened(log, out, "replay") as rows:
        window = _window(run, steps, since, last)
        if not store.count(rows, window):
            raise BadInput(f"{log} has no such groups")
        url = url or (None if model or engine else os.environ.get("OPERA_REWARD_URL"))
        os.environ.pop("OPERA_AUDIT", None)  # what is scored again here is not to be logged again
        target, changes = Target(url, engine, model, concurrency), Changes(tolerance)
        with out.open("w", encoding="utf-8") if out else nullcontext() as pairs:
            asyncio.run(_rescore(rows, window, target, changes, pairs))
        show(changes, Console(highlight=False, soft_wrap=not sys.stdout.isatty()))
    lost = sum(count for reason, count in changes.missing.items() if reason != "recovered")
    raise typer.Exit(Exit.SOME_FAILED if lost else Exit.OK)


@contextmanager
def _opened(log: Path, out: Path | None, verb: str) -> Iterator[sqlite3.Connection]:
    """Yield the log; what is wrong with it, with `out` or with the service becomes one line and a code."""
    with one_line_errors(f"audit {verb}"):
        if out is not None:
            must_be_writable(out, "-o", others={"the log itself": log})
        try:
            with closing(store.open_for_reading(log)) as connection:
                yield connection
        except NotAnAuditLog as error:
            raise BadInput(str(error)) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            raise BadInput(f"cannot write {out}: {error.strerror}") from None


def _window(run: str | None, steps: Any, since: float | None, last: int | None) -> Window:
    first_step, last_step = steps or (None, None)
    return Window(run, first_step, last_step, since, last)


async def _rescore(
    log: sqlite3.Connection, window: Window, target: Target, changes: Changes, out: TextIO | None
) -> None:
    from opera_service.audit.rescore import rescore

    async with target.opened() as client:
        async for group in rescore(client, log, window, concurrency=target.concurrency):
            changes.add(group)
            for pair in group.pairs if out else ():
                where = {"run_id": group.run_id, "step": group.step, "group_id": group.group_id}
                print(json.dumps({**where, **asdict(pair)}), file=out)
