"""`opera-reward demo`: the whole service once, on its own model and tasks, over real HTTP.

Knows how to start and stop the service in this process. The embedded model thinks about its own stories
(`rollouts`, `show`); any other model reads written responses to open-ended prompts (`open_samples`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opera_cli.apps import new_app, run_app
from opera_cli.exits import one_line_errors
from opera_client.errors import BadInput, OperaError
from opera_client.plot import write_page

if TYPE_CHECKING:
    from opera_client.wire import Group, RewardResult, ServedModel
    from opera_service.server.backends import Backend
    from opera_service.server.settings import Settings

SEED = 0
LIVE_STEPS = 30
"""Steps of the run that `--ui` shows."""


@dataclass(frozen=True)
class Options:
    """What the demo was asked to show."""

    out: Path
    seed: int
    model: str | None
    ui: bool


app = new_app()


def run(argv: list[str]) -> int:
    """Watch responses being rewarded: the embedded model's own, or open-ended ones read by a model of yours."""
    return run_app(app, argv, "demo")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder for the files.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="The seed by which questions and responses are drawn.")] = SEED,
    model: Annotated[
        str | None,
        typer.Option(
            help="smollm2, a folder or an id: this model reads open-ended answers; default: the embedded one."
        ),
    ] = None,
    ui: Annotated[bool, typer.Option("--ui", help="Go on as a small run on the live page, until Ctrl-C.")] = False,
) -> None:
    """Watch responses being rewarded: the embedded model's own, or open-ended ones read by a model of yours."""
    with one_line_errors("demo"):
        try:
            asyncio.run(_demo(Options(out, seed, model, ui)))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise BadInput(f"cannot write to {out}: {error.strerror}; choose another --out") from None
        except OperaError as error:  # the service runs here: whatever it says is about what was asked for
            raise BadInput(error.message) from None
        except KeyboardInterrupt:
            if not ui:  # where it is how one leaves
                raise


async def _demo(options: Options) -> None:
    # Torch takes seconds to import; somebody who asks for --help need not wait for it.
    from opera_client import AsyncRewardClient
    from opera_demo import open_samples, rollouts, show
    from opera_demo.world import tasks
    from opera_service.server.backends import load_backend
    from opera_service.server.settings import Settings

    options.out.mkdir(parents=True, exist_ok=True)
    console = show.console()
    console.print(show.INTRODUCTION if options.model is None else open_samples.INTRODUCTION)
    # Given here, so that no OPERA_... variable of a real service changes the demo.
    settings = Settings(engine="torch", model=options.model, api_keys=(), api_key_file=None, weight_version="0")
    if options.ui:
        settings = settings.model_copy(update={"ui": True, "audit": None, "audit_texts": True})
    backend = await asyncio.to_thread(load_backend, settings)
    async with _serving(settings, backend) as (url, model):
        served = f"{url}: model {model.name}, {model.dtype}, engine {model.engine} ({model.route})"
        console.print(show.facts({"Service": served}))
        if options.model is None:
            asked = tasks("test", 4, seed=options.seed)
            start = time.perf_counter()
            sampled = await rollouts.sample(backend.engine, backend.tokenizer, asked, count=4, seed=options.seed)
            drawn = f"4 different responses to each of {len(asked)} questions the model never saw"
            console.print(show.facts({"Sampling": f"{drawn}, {time.perf_counter() - start:.1f} s"}))
            groups, report = [one.group for one in sampled], partial(show.report, console, sampled)
        else:
            samples = open_samples.draw(3, options.seed)
            groups, report = [one.group for one in samples], partial(open_samples.report, console, samples)
        start = time.perf_counter()
        async with AsyncRewardClient(url) as client:
            result = await client.reward(groups, run_id="demo", step=0)
        seconds = time.perf_counter() - start
        console.print(show.facts({"Scoring": show.cost(result, seconds)}))
        report(result)
        if options.model is not None:
            graded = options.out / "graded.jsonl"
            open_samples.write_graded(graded)
            ask = f"opera-reward check {graded} --model {options.model}"
            console.print(f"Graded      {graded} (is the reward fit? {ask})", soft_wrap=True)
        for line in _files(options, groups, result):
            console.print(line, soft_wrap=True)  # a path in one piece can be clicked and copied
        if options.ui:
            console.print(f"Live page   {url}/ui/#/run/demo (Ctrl-C ends it)", soft_wrap=True)
            await _go_on(url, backend, options)


async def _go_on(url: str, backend: Backend, options: Options) -> None:
    """Be a small run for the live page, a step every few seconds, then wait for Ctrl-C."""
    from opera_client import AsyncRewardClient
    from opera_demo import rollouts
    from opera_demo.world import tasks

    async with AsyncRewardClient(url) as client:
        for step in range(1, LIVE_STEPS if options.model is None else 1):
            asked, seed = tasks("test", 4, seed=options.seed + step), options.seed + step
            sampled = await rollouts.sample(backend.engine, backend.tokenizer, asked, count=4, seed=seed)
            await client.reward([one.group for one in sampled], run_id="demo", step=step)
            await asyncio.sleep(1.0)
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def _serving(settings: Settings, backend: Backend) -> AsyncIterator[tuple[str, ServedModel]]:
    """Serve on a free port of the loopback while the block runs; yields the address and what is served there."""
    import uvicorn

    from opera_service.server.app import create_app

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # Ctrl-C is the demo's to handle: it ends the block, and that ends the server

    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(settings, backend=backend)
        server = Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            runtime = await app.state.lifecycle.ready()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", runtime.served_model()
        finally:
            server.should_exit = True
            await serving


def _files(options: Options, groups: Sequence[Group], result: RewardResult) -> Iterator[str]:
    """Write question, answer and plot; yields a line about each."""
    out = options.out
    question, answer, plot = out / "groups.jsonl", out / "answer.json", out / "plot.html"
    lines = [group.model_dump_json(exclude_none=True) for group in groups]
    question.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    answer.write_text(json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False), encoding="utf-8")
    run = {"reward": result.reward, "preset": result.preset, "model": result.model.model_dump()}
    write_page(plot, result.groups, groups, run=run)
    yield f"Plot        {plot} (open it in a browser)"
    yield f"Answer      {answer} (the whole JSON of POST /reward)"
    same = "" if options.model is None else f" --model {options.model}"
    yield f"Questions   {question} (score them again: opera-reward score {question}{same})"
