"""A stage: what it reads, what shapes it, where it writes. The runner skips what is done and resumes what is not.

A finished stage leaves `done.json`: a fingerprint of its settings and of everything it read, and the digests of
what it wrote. The same fingerprint again means nothing to do; another one moves the old folder aside.
Knows no training.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from opera_client.errors import BadInput
from opera_trainer import ranks
from opera_trainer.artefacts import Row, write_json
from opera_trainer.config import RunConfig

DONE, STARTED = "done.json", "started.json"
SCRATCH = "scratch"
"""Folder in a stage's folder for what only an interrupted run needs; removed when the stage is done."""


@dataclass(frozen=True)
class Work:
    """What a stage gets when it runs. Its folder may hold what an interrupted run of the same fingerprint left."""

    config: RunConfig
    folder: Path
    inputs: Mapping[str, Path]
    """Folders of the stages it needs, by name."""
    say: Callable[[str], None]
    """Shows one line of progress."""


@dataclass(frozen=True)
class Stage:
    """One step of a run."""

    name: str
    """Also its folder."""
    needs: tuple[str, ...]
    """Names of the stages whose folders it reads."""
    shape: Mapping[str, Any]
    """JSON of everything else that its output depends on: the sections of the configuration it reads, the seed."""
    run: Callable[[Work], None]
    """Does the work. May be killed at any point and called again."""
    together: bool = False
    """Whether all processes of a distributed training run it; else the first one does, and the others wait."""
    fresh: bool = False
    """Whether it runs every time, because it is short and also reads what others leave in the run's folder."""


class Done(Row):
    """The marker of a finished stage."""

    fingerprint: str
    seconds: float
    """Of the run that finished it."""
    outputs: dict[str, str]
    """Relative path → sha256."""


def shape_of(**parts: Any) -> dict[str, Any]:
    """Return settings and plain values as the JSON that a stage's `shape` is made of."""
    return {
        key: part.model_dump(mode="json") if isinstance(part, BaseModel) else part for key, part in parts.items()
    }


def run_stages(
    stages: Sequence[Stage],
    config: RunConfig,
    out: Path,
    say: Callable[[str], None],
    *,
    given: Mapping[str, Path] | None = None,
) -> dict[str, Path]:
    """Run stages in order, those that are done excepted, and return their folders by name.

    Args:
        stages: each after those it needs.
        config: of the run.
        out: folder of the run.
        say: shows one line of progress.
        given: folders of finished stages that lie elsewhere.

    Raises:
        BadInput: a stage is needed that did not run, or the disk refuses.
    """
    folders: dict[str, Path] = dict(given or {})
    for number, stage in enumerate(stages, start=1):
        missing = [name for name in stage.needs if name not in folders]
        if missing:
            raise BadInput(f"{stage.name} needs what {', '.join(missing)} writes; run that before")
        folder = out / stage.name
        title = f"[{number}/{len(stages)}] {stage.name}"
        fingerprint = _fingerprint(stage, folders)
        try:
            if ranks.first():
                _prepare(folder, fingerprint, fresh=stage.fresh)
            ranks.wait()
            done = finished(folder)
            if done is not None:
                say(f"{title}: done before, {done.seconds:.0f} s")
            else:
                say(title)
                _run(stage, config, folder, folders, fingerprint, say)
        except OSError as error:
            raise BadInput(
                f"{stage.name}: {error.strerror or error}: {error.filename or folder};"
                " nothing finished is lost: mend it and repeat the command"
            ) from error
        folders[stage.name] = folder
    return folders


def finished(folder: Path) -> Done | None:
    """Return the marker of a finished stage, None when it is not finished."""
    try:
        return Done.model_validate_json((folder / DONE).read_bytes())
    except (OSError, ValidationError):
        return None


def _fingerprint(stage: Stage, folders: Mapping[str, Path]) -> str:
    read = {}
    for name in stage.needs:
        done = finished(folders[name])
        if done is None:
            raise BadInput(f"{stage.name} needs {folders[name]}, which is not finished; run that stage before")
        read[name] = done.outputs
    whole = json.dumps([stage.name, stage.shape, read], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _prepare(folder: Path, fingerprint: str, *, fresh: bool = False) -> None:
    """Leave a folder that belongs to `fingerprint`, with its marker where there is nothing to do."""
    done = finished(folder)
    if done is not None and done.fingerprint == fingerprint and not fresh:
        return
    if folder.exists() and _started(folder) != fingerprint:
        _aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    write_json(folder / STARTED, {"fingerprint": fingerprint})


def _started(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / STARTED).read_bytes())["fingerprint"])
    except (OSError, ValueError, KeyError):
        return None


def _aside(folder: Path) -> None:
    """Keep what another configuration made, out of the way."""
    name = f"{folder.name}-{(_started(folder) or 'unknown')[:8]}"
    kept = folder.parent / "replaced" / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        shutil.rmtree(kept)
    folder.rename(kept)


def _run(
    stage: Stage,
    config: RunConfig,
    folder: Path,
    folders: Mapping[str, Path],
    fingerprint: str,
    say: Callable[[str], None],
) -> None:
    start = time.monotonic()
    if stage.together or ranks.first():
        stage.run(Work(config, folder, {name: folders[name] for name in stage.needs}, say))
    ranks.wait()
    if ranks.first():
        _finish(folder, fingerprint, time.monotonic() - start)
    ranks.wait()


def _finish(folder: Path, fingerprint: str, seconds: float) -> None:
    outputs = {
        str(path.relative_to(folder)): _digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (DONE, STARTED) and SCRATCH not in path.relative_to(folder).parts
    }
    write_json(folder / DONE, Done(fingerprint=fingerprint, seconds=seconds, outputs=outputs))
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
