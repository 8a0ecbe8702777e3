"""`opera-reward check FILE`: is this reward fit to train on these data with this model?

Knows arguments and exit codes: 0 fit, 1 warnings, 2 unfit, or bad usage or input; 3 the service is unreachable.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from opera_cli.exits import Exit, code_of, say
from opera_client.errors import BadInput, OperaError


def run(argv: list[str]) -> int:
    """Say before a run is paid for whether this reward is fit for these data and this model."""
    options = _parser().parse_args(argv)
    try:
        return asyncio.run(_check(options))
    except BadInput as error:
        return _refuse(str(error), Exit.BAD_INPUT)
    except OperaError as error:
        return _refuse(" ".join(error.message.split()), code_of(error))
    except OSError as error:
        return _refuse(f"cannot write {error.filename}: {error.strerror}", Exit.BAD_INPUT)
    except KeyboardInterrupt:
        again = f"; run the same command again to go on ({options.journal})" if options.journal else ""
        return _refuse(f"interrupted{again}", Exit.INTERRUPTED)


def _refuse(reason: str, code: Exit) -> int:
    say(f"opera-reward check: {reason}")
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opera-reward check", description=run.__doc__, allow_abbrev=False)
    add = parser.add_argument
    grades = "a trajectory may have a `grade`, a group `preferences`, pairs of positions with the better first"
    add("file", type=Path, metavar="FILE", help=f"groups, .jsonl or .parquet; {grades}")
    add("--url", default=os.environ.get("OPERA_REWARD_URL"), help="a running service; its key is OPERA_API_KEY")
    add("--engine", choices=("torch", "dummy"), help="without --url: the engine to run in this process")
    add("--model", help="without --url: smollm2, a folder or an id")
    add("--reward", default="opera", help="a reward of the registry (default: %(default)s)")
    add("--preset", default="hardened", help="one of its presets (default: %(default)s)")
    add("--config", action="append", default=[], metavar="KEY=VALUE", help="override a field; repeatable")
    add("--groups", type=int, default=32, help="check at most this many groups (default: %(default)s)")
    add("--attacked", type=int, default=8, help="attack at most this many of them (default: %(default)s)")
    add("--json", type=Path, metavar="OUT", help="write the findings as JSON")
    add("--html", type=Path, metavar="OUT", help="write the findings as one page")
    add("--journal", type=Path, metavar="FILE", help="keep what was scored here; the same command goes on with it")
    for name, text in (
        ("informative", "share of groups with information that must be reached"),
        ("farmed", "share of attacks of a family that may earn more than the honest best"),
        ("agreement", "share of graded pairs that must be in order"),
        ("gated", "share of responses that may fail the format"),
    ):
        add(f"--{name}", nargs=2, type=float, metavar=("WARN", "UNFIT"), help=f"{text}: below warn, below unfit"
            if name in ("informative", "agreement") else f"{text}: above warn, above unfit")  # fmt: skip
    return parser


async def _check(options: argparse.Namespace) -> int:
    # Only here: `--help` needs no numpy and no progress bar.
    from rich.console import Console
    from rich.progress import Progress

    from opera_cli.options import parse_config
    from opera_cli.target import Target
    from opera_service.check import measuring, report
    from opera_service.check.findings import Thresholds, findings
    from opera_service.check.samples import read

    if options.groups < 1 or options.attacked < 0:
        raise BadInput("--groups must be at least 1, --attacked at least 0")
    samples = read(options.file, options.groups)
    given = {name: getattr(options, name) for name in ("informative", "farmed", "agreement", "gated")}
    thresholds = Thresholds(**{name: tuple(pair) for name, pair in given.items() if pair is not None})
    config = parse_config(options.config)
    settings = {"reward": options.reward, "preset": options.preset, "config": config, "detail": "reward"}
    console = Console(stderr=True)
    async with Target(options.url, options.engine, options.model, concurrency=1).opened() as client:
        served = await client.model()
        steps = len(samples) + min(options.attacked, len(samples))
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("scoring", total=steps)
            measured = await measuring.measure(
                client,
                samples,
                settings,
                attacked=options.attacked,
                journal=measuring.Journal(options.journal),
                advance=lambda: progress.advance(bar),
            )
    found = findings(measured, thresholds)
    responses, attacked = sum(len(one.group.trajectories) for one in samples), min(options.attacked, len(samples))
    about = {
        "Model": f"{served.name}, {served.dtype}, {served.engine}",
        "Reward": f"{options.reward}, {options.preset}" + (f", {config}" if config else ""),
        "Data": f"{options.file}: {len(samples)} groups, {responses} responses, {attacked} groups attacked",
    }
    out = Console(highlight=False)
    report.show(out if out.is_terminal else Console(highlight=False, width=130), about, found)
    if options.json is not None:
        report.write_json(options.json, about, found)
    if options.html is not None:
        report.write_page(options.html, about, found)
    return {"ok": 0, "warning": 1, "unfit": 2}[report.verdict(found)]
