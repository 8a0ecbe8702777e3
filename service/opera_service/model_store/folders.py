"""What `--model` may name, and the folder that transformers loads for it.

A hub id or a folder written by `save_pretrained` is itself; the name of a fetched model and a GGUF file stand for
a folder in the cache. Knows no weights.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opera_client.errors import NotSupported


def cache_home(home: Path | None = None) -> Path:
    """Return the folder for all that can be made again: `home`, `OPERA_HOME`, or the user's cache folder."""
    if home is not None:
        return home.expanduser()
    if own := os.environ.get("OPERA_HOME"):
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "opera-reward"


def model_folder(source: str) -> str:
    """Return what transformers can load for `source`, the value of `--model`; blocks while it is made.

    A model that can be fetched must have been fetched: nothing is downloaded here. A GGUF file, or a folder that
    holds one and no other model, is converted once. Raises `NotSupported`, naming the way.
    """
    from opera_service.model_store import gguf, packages

    path = Path(source).expanduser()
    package = packages.PACKAGES.get(source)
    if package and not path.exists():
        folder = packages.folder_of(package)
        if not is_complete(folder):
            raise NotSupported(
                f"model {source} is not on this machine; get it with: opera-reward fetch-model {source}"
            )
        return str(folder)
    if path.is_file() and path.suffix.lower() == ".gguf":
        return str(gguf.converted(path))
    if path.is_dir() and not (path / "config.json").is_file():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".gguf")
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise NotSupported(
                f"model folder {source!r} holds {len(files)} GGUF files ({names}); give one of them"
            )
        if files:
            return str(gguf.converted(files[0]))
    return source


def is_complete(folder: Path) -> bool:
    """Whether a folder of the cache holds a model; it appears under its name only when it does."""
    return (folder / "config.json").is_file()


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when the block ends well; what another process made first stays.

    Raises `NotSupported` when the place cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise NotSupported(
            f"cannot write to {folder.parent}: {error.strerror}; choose another folder with OPERA_HOME"
        ) from None
    try:
        yield draft
        draft.chmod(0o755)
        try:
            draft.rename(folder)
        except OSError:
            if not is_complete(folder):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
