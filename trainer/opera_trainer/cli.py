"""`opera-reward train`: arguments become stages. Knows no training; heavy imports wait for good arguments."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from opera_cli.apps import new_app, run_app
from opera_cli.exits import one_line_errors
from opera_client.errors import BadInput
from opera_trainer import ranks

STAGES = {
    "synthesize": "cold start: reasoning traces by perplexity-guided search",
    "sft": "fine-tune on the traces",
    "grpo": "train on rewards",
    "evaluate": "measure the base and what every stage made, on held-out tasks",
    "export": "write the Hugging Face folder with its model card",
}
PACKAGED = ("demo", "open-small", "open-smollm2", "gpu-small", "paper-qwen3-8b")


Config = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help=f"A YAML file, or one that comes with the package: {', '.join(PACKAGED)}.",
        show_default=False,
    ),
]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder of the run; default: out/train/NAME.")]
Seed = Annotated[int | None, typer.Option(help="Instead of the configuration's.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. grpo.rollouts=20. Repeatable."),
]

app = new_app("Train on rewards: cold start, SFT, GRPO, evaluation, export, report; resumable.")


def run(argv: list[str]) -> int:
    """Train on rewards: cold start, SFT, GRPO, evaluation, export, report; resumable."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    signal.signal(signal.SIGTERM, _interrupt)
    return run_app(app, _one_value_each(argv, "--only", "--seeds"), "train")


def _one_value_each(argv: list[str], *flags: str) -> list[str]:
    """Write `--only A B` as `--only A --only B`."""
    spread: list[str] = []
    several = None
    for number, part in enumerate(argv):
        if part.startswith("-"):
            several = part if part in flags else None
        elif several is not None and argv[number - 1] != several:
            spread.append(several)
        spread.append(part)
    return spread


@app.command("demo")
def _demo(config: Config = "demo", out: OutFolder = None, seed: Seed = None, changes: Changes = None) -> None:
    """The whole pipeline on the embedded model, minutes on two CPU cores."""
    _run(config, out, seed, changes, until="report")


@app.command("run")
def _whole(config: Config, out: OutFolder = None, seed: Seed = None, changes: Changes = None) -> None:
    """The whole pipeline of a configuration."""
    _run(config, out, seed, changes, until="report")


def _add_stage(name: str, about: str) -> None:
    @app.command(name, help=f"{about[0].upper()}{about[1:]}, and whatever it needs before.")
    def stage(config: Config, out: OutFolder = None, seed: Seed = None, changes: Changes = None) -> None:
        _run(config, out, seed, changes, until=name)


for _name, _about in STAGES.items():
    _add_stage(_name, _about)


@app.command("ablate")
def _ablate(
    config: Config,
    out: OutFolder = None,
    seed: Seed = None,
    changes: Changes = None,
    only: Annotated[list[str] | None, typer.Option(metavar="CELL", help="These cells only. Repeatable.")] = None,
    seeds: Annotated[list[int] | None, typer.Option(metavar="N", help="These seeds only. Repeatable.")] = None,
) -> None:
    """Other rewards, scorers and starts, on several seeds; a table."""
    with _one_line_errors():
        from opera_trainer.ablation import cells, table

        chosen, folder = _configured(config, out, seed, changes)
        every = list(cells.trials(chosen, folder, seeds or [], only or []))
        shown = sorted({*chosen.ablation.seeds, *(seeds or [])})
        _prepare(chosen.threads)
        say = Clock()
        for number, trial in enumerate(every, start=1):
            say(f"trial {number}/{len(every)}: {trial.cell.name}, seed {trial.seed}")
            cells.run(trial, chosen, say)
            page = table.write(list(cells.trials(chosen, folder, shown)), folder)
        print(page.read_text(encoding="utf-8"))


def _run(config: str, out: Path | None, seed: int | None, changes: list[str] | None, *, until: str) -> None:
    with _one_line_errors():
        from opera_trainer import pipeline
        from opera_trainer.stage import run_stages

        chosen, folder = _configured(config, out, seed, changes)
        _prepare(chosen.threads)
        stages = pipeline.stages(chosen, cast("pipeline.Target", until))
        folders = run_stages(stages, chosen, folder, Clock())
        if "report" in folders:
            print(f"Report  {folders['report'] / 'report.html'} (open it in a browser)")
        if "export" in folders:
            print(f"Model   {folders['export'] / 'model'} (opera-reward serve --model …)")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what the user can mend, a missing extra, too, into one line and an exit code."""
    with one_line_errors("train"):
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("opera_"):
                raise
            raise BadInput(f"train needs {error.name}: pip install 'opera-reward[trainer]'") from None


def _configured(name: str, out: Path | None, seed: int | None, changes: list[str] | None) -> tuple[Any, Path]:
    from opera_trainer.config import load, packaged

    path = packaged(name) if name in PACKAGED else Path(name)
    if not path.exists():
        raise BadInput(f"there is no file {name}, and the package brings {', '.join(PACKAGED)} only")
    config = load(path, [*(changes or []), *([] if seed is None else [f"seed={seed}"])])
    return config, out or Path("out/train") / config.name


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
