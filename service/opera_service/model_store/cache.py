"""The folder for models that can be made again, and folders in it that appear only when they are whole."""

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
