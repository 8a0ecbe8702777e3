"""`opera-reward train`: arguments become stages. Knows no training; heavy imports wait for good arguments."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

from opera_client.errors import BadInput
from opera_trainer import ranks

STAGES = {
    "synthesize": "cold start: reasoning traces by perplexity-guided search",
    "sft": "fine-tune on the traces",
    "grpo": "train on rewards",
    "evaluate": "measure the base and what every stage made, on held-out tasks",
    "export": "write the Hugging Face folder with its model card",
}
PACKAGED = ("demo", "gpu-small", "paper-qwen3-8b")


def run(argv: list[str]) -> int:
    """Train on rewards: cold start, SFT, GRPO, evaluation, export, report; resumable."""
    options = _parser().parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        options.run(options)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("opera_"):
            raise
        raise BadInput(f"train needs {error.name}: pip install 'opera-reward[trainer]'") from None
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opera-reward train", description=run.__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, about: str, work: Callable[[Any], None], default: str | None) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=about, description=about)
        found.set_defaults(run=work, command=name)
        names = ", ".join(PACKAGED)
        found.add_argument(
            "config", metavar="CONFIG", nargs=None if default is None else "?", default=default,
            help=f"YAML file, or one that comes with the package: {names}",
        )  # fmt: skip
        found.add_argument("--out", type=Path, help="folder of the run (default: out/train/NAME)")
        found.add_argument("--seed", type=int, help="instead of the configuration's")
        found.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. grpo.rollouts=20"
        )
        return found

    add("demo", "the whole pipeline on the embedded model, minutes on two CPU cores", _whole, "demo")
    add("run", "the whole pipeline of a configuration", _whole, None)
    for name, about in STAGES.items():
        add(name, f"{about}, and whatever it needs before", _until, None)
    ablation = add("ablate", "other rewards, scorers and starts, on several seeds; a table", _ablate, None)
    ablation.add_argument("--only", nargs="+", default=[], metavar="CELL", help="these cells only")
    ablation.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N", help="these seeds only")
    return parser


def _whole(options: argparse.Namespace) -> None:
    _run(options, "report")


def _until(options: argparse.Namespace) -> None:
    _run(options, options.command)


def _run(options: argparse.Namespace, until: str) -> None:
    from opera_trainer import pipeline
    from opera_trainer.stage import run_stages

    config, out = _config(options)
    _prepare(config.threads)
    folders = run_stages(pipeline.stages(config, cast("pipeline.Target", until)), config, out, Clock())
    if "report" in folders:
        print(f"Report  {folders['report'] / 'report.html'} (open it in a browser)")
    if "export" in folders:
        print(f"Model   {folders['export'] / 'model'} (opera-reward serve --model …)")


def _ablate(options: argparse.Namespace) -> None:
    from opera_trainer.ablation import cells, table

    config, out = _config(options)
    every = list(cells.trials(config, out, options.seeds, options.only))
    seeds = sorted({*config.ablation.seeds, *options.seeds})
    _prepare(config.threads)
    say = Clock()
    for number, trial in enumerate(every, start=1):
        say(f"trial {number}/{len(every)}: {trial.cell.name}, seed {trial.seed}")
        cells.run(trial, config, say)
        page = table.write(list(cells.trials(config, out, seeds)), out)
    print(page.read_text(encoding="utf-8"))


def _config(options: argparse.Namespace) -> tuple[Any, Path]:
    from opera_trainer.config import load, packaged

    path = packaged(options.config) if options.config in PACKAGED else Path(options.config)
    seed = [] if options.seed is None else [f"seed={options.seed}"]
    config = load(path, [*options.set, *seed])
    return config, options.out or Path("out/train") / config.name


def _prepare(threads: int | None) -> None:
    """Choose torch's threads, for the service's process, too, and silence progress bars of libraries."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import datasets
    import torch
    import transformers

    if threads is not None:
        torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()


class Clock:
    """Prints lines to stderr with the time since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        """Print one line, from the first of several processes."""
        if not ranks.first():
            return
        minutes, seconds = divmod(int(time.monotonic() - self._start), 60)
        print(f"{minutes:3}:{seconds:02}  {line}", file=sys.stderr, flush=True)


def _interrupt(*_: object) -> NoReturn:
    """End as Ctrl-C does, so that the service's process is stopped, too."""
    raise KeyboardInterrupt
