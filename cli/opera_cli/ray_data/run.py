"""The command itself: what is to be done, on which workers, and what came out. The only file that knows Ray."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from opera_cli.batch import Tally
from opera_cli.exits import say
from opera_cli.ray_data.chunks import Chunk, cut, files_of
from opera_cli.ray_data.parts import Parts
from opera_cli.ray_data.steps import Row, Scorer, count, gather, look, rows
from opera_cli.score_job import known_to_read_references
from opera_cli.source import reference_needed
from opera_cli.target import Target
from opera_cli.written import same_file
from opera_client._progress import progress_bar
from opera_client.errors import BadInput
from opera_client.extras import missing_extra
from opera_client.files.lock import claimed


@dataclass(frozen=True)
class Workers:
    """How many engines there are, and what each of them takes."""

    count: int | None = None
    """By default one a GPU, or one a CPU where there are no GPUs."""
    gpus: float | None = None
    """GPUs of each: by default 1 where there are any."""


def score_data_set(source: Path, out: Path, settings: dict[str, Any], target: Target, workers: Workers) -> Tally:
    """Score every group of `source` into `out`, going on with what an earlier run left.

    `out` is a file, as without Ray, or a folder that keeps the parts. Raises `BadInput`.
    """
    started = time.monotonic()
    files = files_of(source)
    folder = out if is_folder(out) else out.with_name(out.name + ".parts")
    if same_file(folder, source):
        raise BadInput(f"{out} is the input folder; choose another -o")
    if not is_folder(out) and out.exists():
        raise BadInput(f"{out} is there already; choose another -o, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder):
        tally, groups = _into(folder, out, files, source, settings, target, workers)
    say(tally.line(groups, time.monotonic() - started) + f" -> {out}")
    return tally


def _into(
    folder: Path,
    out: Path,
    files: list[Path],
    source: Path,
    settings: dict[str, Any],
    target: Target,
    workers: Workers,
) -> tuple[Tally, int]:
    """Return what came out, and how many groups there were."""
    parts = Parts(folder.resolve())
    parts.agree("input", {"input": _fingerprint(files)})
    parts.agree("settings", {**settings, "engine": target.engine, "model": target.model})
    tally = Tally("trajectories")
    with _cluster():
        plan = _planned(parts, files, source)
        if plan.without_reference and (name := asyncio.run(known_to_read_references(settings))):
            raise BadInput(f"{plan.without_reference}: {reference_needed(name)}")
        _score_all(parts, plan, settings, target, workers, tally)
    parts.tidy()
    if not is_folder(out):
        parts.join(len(plan.chunks), out)
    return tally, sum(plan.groups)


def is_folder(out: Path) -> bool:
    """Whether `-o` names a folder for parts rather than one file."""
    return out.is_dir() or out.suffix not in (".jsonl", ".parquet")


@dataclass(frozen=True)
class _Plan:
    chunks: list[Chunk]
    groups: list[int]
    """How many groups each holds."""
    without_reference: str | None = None
    """File and line of the first that has none."""

    @property
    def firsts(self) -> list[int]:
        """The place of each chunk's first group."""
        places, at = [], 0
        for groups in self.groups:
            places.append(at)
            at += groups
        return places


def _planned(parts: Parts, files: Sequence[Path], source: Path) -> _Plan:
    """Look through the data once, in parallel; gather rows that belong together."""
    gathered = parts.folder / "_groups.jsonl"
    known = parts.noted("plan")
    if known is None:
        chunks = cut(files)
        plan, flat = _looked_through(chunks, source)
        if flat:
            _gather(plan, gathered, source)
            chunks = cut([gathered])
            plan = replace(_looked_through(chunks, source)[0], without_reference=plan.without_reference)
        known = {"gathered": bool(flat), "groups": plan.groups, "without_reference": plan.without_reference}
        parts.note("plan", known)
    chunks = cut([gathered] if known["gathered"] else files)
    return _Plan(chunks, known["groups"], known.get("without_reference"))


def _looked_through(chunks: list[Chunk], source: Path) -> tuple[_Plan, int]:
    """Return the chunks with their numbers of groups, or of lines where some are flat, and how many are flat."""
    found: dict[int, Row] = {}
    with progress_bar("check", len(chunks)) as advance:
        for row in _mapped(look, ({"chunk": _text(chunk)} for chunk in chunks)):
            found[row["index"]] = row
            advance(1)
    before: dict[str, int] = {}
    without = None
    for chunk in chunks:
        row = found[chunk.index]
        start = before.get(chunk.path, 0)
        if row["problem"]:
            raise BadInput(f"{chunk.path}, {chunk.unit} {start + row['at']}: {row['problem']}")
        if row["without_reference"] and without is None:
            without = f"{chunk.path}, {chunk.unit} {start + row['without_reference']}"
        before[chunk.path] = before.get(chunk.path, 0) + row["lines"]
    groups = [found[chunk.index]["groups"] + found[chunk.index]["flat"] for chunk in chunks]
    if not sum(groups):
        raise BadInput(f"{source} is empty; one JSON object a line is needed")
    return _Plan(chunks, groups, without), sum(row["flat"] for row in found.values())


def _gather(plan: _Plan, gathered: Path, source: Path) -> None:
    """Bring the rows of each group together: a shuffle of the whole data set through Ray's object store."""
    places = zip(plan.chunks, plan.firsts, strict=True)
    pieces = _data({"chunk": _text(chunk), "first": first} for chunk, first in places)
    groups = pieces.flat_map(rows).groupby("key").map_groups(gather, batch_format="numpy").sort("place")
    unfinished = gathered.with_suffix(".tmp")
    with unfinished.open("w", encoding="utf-8") as file, progress_bar("gather", sum(plan.groups)) as advance:
        for row in groups.iter_rows():
            if row["problem"]:
                group = json.loads(row["line"])
                name = group.get("group_id") or str(group.get("prompt"))[:40]
                raise BadInput(f"{source}, group {name!r}: {row['problem']}")
            file.write(row["line"] + "\n")
            advance(1)
    unfinished.replace(gathered)


def _score_all(
    parts: Parts, plan: _Plan, settings: dict[str, Any], target: Target, workers: Workers, tally: Tally
) -> None:
    done = parts.done(len(plan.chunks))
    if done:
        say(f"{parts.folder}: going on after {sum(plan.groups[at] for at in done)} of {sum(plan.groups)}")
    todo = [
        {"chunk": _text(chunk), "index": chunk.index, "first": first}
        for chunk, first in zip(plan.chunks, plan.firsts, strict=True)
        if chunk.index not in done
    ]
    with progress_bar("score", sum(plan.groups)) as advance:
        for row in _mapped(partial(count, folder=str(parts.folder)), ({"index": index} for index in sorted(done))):
            _add(tally, row)
            advance(row["groups"])
        if not todo:
            return
        arguments = (settings, target, str(parts.folder))
        resources = _resources(workers, len(todo))
        for row in _data(todo).map(Scorer, fn_constructor_args=arguments, **resources).iter_rows():
            if row["problem"]:
                raise BadInput(row["problem"])
            _add(tally, row)
            advance(row["groups"])


def _add(tally: Tally, row: Row) -> None:
    tally.scored += row["scored"]
    tally.errors.update(json.loads(row["errors"]))


def _resources(workers: Workers, chunks: int) -> dict[str, Any]:
    """Return Ray Data's options for the pool of engines."""
    import ray
    from ray.data import ActorPoolStrategy

    there = ray.cluster_resources()
    gpus = (1.0 if there.get("GPU") else 0.0) if workers.gpus is None else workers.gpus
    fits = int(there["GPU"] / gpus) if gpus else int(there.get("CPU", 1))
    count = max(1, min(workers.count or fits, chunks))
    return {"compute": ActorPoolStrategy(size=count), **({"num_gpus": gpus} if gpus else {"num_cpus": 1})}


@contextmanager
def _cluster() -> Iterator[None]:
    """Join the cluster at RAY_ADDRESS, or start one on this machine for the time being."""
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise missing_extra(error, "--ray") from None
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # our own bar takes its bars' place
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield
    finally:
        if ours:
            ray.shutdown()


def _data(items: Iterable[Row]) -> Any:
    """Return a data set of one block a row, so that rows are dealt out one by one."""
    import ray.data

    given = list(items)
    return ray.data.from_items(given, override_num_blocks=len(given))


def _mapped(step: Callable[[Row], Row], items: Iterable[Row]) -> Iterator[Row]:
    given = list(items)
    if given:
        yield from _data(given).map(step).iter_rows()


def _text(chunk: Chunk) -> str:
    return json.dumps(asdict(chunk))


def _fingerprint(files: Sequence[Path]) -> str:
    """Return 16 hex digits that name the files as they are now, without reading them."""
    stamps = [
        (str(file.resolve()), status.st_size, status.st_mtime_ns) for file in files if (status := file.stat())
    ]
    return sha256(json.dumps(stamps).encode()).hexdigest()[:16]
