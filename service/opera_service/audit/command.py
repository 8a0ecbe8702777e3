"""`opera-reward audit`: the log as Parquet, or scored again with what changed.

Knows arguments and exit codes; a service is only loaded, or asked, to replay.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import sys
from contextlib import closing, nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from opera_cli.exits import Exit, code_of, say
from opera_client.errors import BadInput, OperaError
from opera_client.extras import missing_extra
from opera_service.audit import store
from opera_service.audit.store import NotAnAuditLog, Window

if TYPE_CHECKING:
    from opera_service.audit.changes import Changes


def run(argv: list[str]) -> int:
    """Export the audit log to Parquet, or score a part of it again and print what changed."""
    options = _parser().parse_args(argv)
    try:
        with closing(store.open_for_reading(options.log)) as log:
            return int(options.work(log, _window(options), options))
    except (NotAnAuditLog, BadInput) as error:
        return _refuse(options, str(error), Exit.BAD_INPUT)
    except OperaError as error:
        return _refuse(options, " ".join(error.message.split()), code_of(error))
    except OSError as error:
        return _refuse(options, f"cannot write {options.out}: {error.strerror}", Exit.BAD_INPUT)
    except KeyboardInterrupt:
        return _refuse(options, "interrupted", Exit.INTERRUPTED)


def _refuse(options: argparse.Namespace, reason: str, code: Exit) -> int:
    say(f"opera-reward audit {options.verb}: {reason}")
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opera-reward audit", description=run.__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{export,replay}")
    window = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    window.add_argument("log", type=Path, metavar="LOG", help="the file that serve --audit writes")
    window.add_argument("--run", help="only this run id")
    window.add_argument(
        "--steps", type=_steps, default=(None, None), metavar="A:B", help="only these steps, B too"
    )
    window.add_argument("--since", type=_time, metavar="TIME", help="only from then on, such as 2026-01-31T12:00")
    window.add_argument("--last", type=_count, metavar="N", help="only the newest N groups of those")

    export = verbs.add_parser("export", parents=[window], help="write the trajectories to a Parquet file")
    export.add_argument("--out", "-o", type=Path, required=True, metavar="OUT.parquet")
    export.set_defaults(work=_export)

    replay = verbs.add_parser(
        "replay",
        parents=[window],
        help="score groups again and print what changed",
        description="Score logged groups again, by a model in this process or by a running service, and print "
        "what changed. The log must have been written with --audit-texts. Exit codes: 0 all scored again; "
        "1 some not; 2 bad usage or file; 3 service unreachable.",
    )
    replay.add_argument("--url", help="a running service; by default OPERA_REWARD_URL, else none")
    replay.add_argument("--model", help="model to run in this process: a path or Hugging Face id")
    replay.add_argument("--engine", help="engine to run in this process: torch (default) or dummy")
    replay.add_argument("--concurrency", type=_count, default=8, help="groups in flight (default: %(default)s)")
    replay.add_argument(
        "--tolerance", type=float, default=1e-6, help="difference of rewards that is none (default: %(default)s)"
    )
    replay.add_argument("--out", "-o", type=Path, metavar="OUT.jsonl", help="also write every pair of numbers")
    replay.set_defaults(work=_replay)
    return parser


def _steps(text: str) -> tuple[int | None, int | None]:
    first, colon, last = text.partition(":")
    try:
        start, stop = (int(part) if part else None for part in (first, last))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 10:20, 10:, :20 or 10") from None
    return (start, stop) if colon else (start, start)


def _time(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time like 2026-01-31T12:00") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _window(options: argparse.Namespace) -> Window:
    first, last = options.steps
    return Window(options.run, first, last, options.since, options.last)


def _export(log: sqlite3.Connection, window: Window, options: argparse.Namespace) -> int:
    from opera_service.audit.export import export

    try:
        rows = export(log, window, options.out)
    except ModuleNotFoundError as error:
        raise missing_extra(error, "audit export") from None
    print(f"{options.out}: {rows} trajectories")
    return Exit.OK


def _replay(log: sqlite3.Connection, window: Window, options: argparse.Namespace) -> int:
    from rich.console import Console

    from opera_service.audit.report import show

    if not store.count(log, window):
        raise BadInput(f"{options.log} has no such groups")
    with options.out.open("w", encoding="utf-8") if options.out else nullcontext() as out:
        changes = asyncio.run(_rescore(log, window, options, out))
    show(changes, Console(highlight=False, soft_wrap=not sys.stdout.isatty()))
    lost = sum(count for reason, count in changes.missing.items() if reason != "recovered")
    return Exit.SOME_FAILED if lost else Exit.OK


async def _rescore(
    log: sqlite3.Connection, window: Window, options: argparse.Namespace, out: TextIO | None
) -> Changes:
    from opera_cli.target import Target
    from opera_service.audit.changes import Changes
    from opera_service.audit.rescore import rescore

    changes = Changes(options.tolerance)
    in_process = options.model or options.engine
    url = options.url or (None if in_process else os.environ.get("OPERA_REWARD_URL"))
    os.environ.pop("OPERA_AUDIT", None)  # what is scored again here is not to be logged again
    target = Target(url, options.engine, options.model, options.concurrency)
    async with target.opened() as client:
        async for group in rescore(client, log, window, concurrency=options.concurrency):
            changes.add(group)
            for pair in group.pairs if out else ():
                where = {"run_id": group.run_id, "step": group.step, "group_id": group.group_id}
                print(json.dumps({**where, **asdict(pair)}), file=out)
    return changes
