"""What `--model` may name, and the folder that transformers loads for it.

A hub id or a folder written by `save_pretrained` is itself; `demo` stands for the embedded model's folder, the
name of a fetched model and a GGUF file for a folder in the cache. Knows no weights.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from opera_client.errors import NotFound, NotSupported
from opera_service.model_store import gguf, packages
from opera_service.model_store.cache import is_complete

EMBEDDED = str(files("opera_demo").joinpath("model"))
"""The folder of the embedded model, which is called `demo`."""


def model_folder(source: str) -> str:
    """Return what transformers can load for `source`, the value of `--model`; blocks while it is made.

    A model that can be fetched must have been fetched: nothing is downloaded here. A GGUF file, or a folder that
    holds one and no other model, is converted once. Raises `NotSupported`, naming the way, and `NotFound` for a
    path from the root that leads nowhere: before torch and transformers are imported, which takes seconds.
    """
    path = Path(source).expanduser()
    if path.is_absolute() and not path.exists():
        raise NotFound(f"model {source}: there is no such file or folder")
    own = _holds_a_model(path)  # such a folder goes before a name; the clone of this project has a folder `demo`
    if source == "demo" and not own:
        return EMBEDDED
    package = packages.PACKAGES.get(source)
    if package and not own:
        folder = packages.folder_of(package)
        if not is_complete(folder):
            raise NotSupported(
                f"model {source} is not on this machine; get it with: opera-reward fetch-model {source}"
            )
        return str(folder)
    if path.is_file() and path.suffix.lower() == ".gguf":
        return str(gguf.converted(path))
    if path.is_dir() and not (path / "config.json").is_file():
        ggufs = sorted(file for file in path.iterdir() if file.suffix.lower() == ".gguf")
        if len(ggufs) > 1:
            names = ", ".join(file.name for file in ggufs)
            raise NotSupported(
                f"model folder {source!r} holds {len(ggufs)} GGUF files ({names}); give one of them"
            )
        if ggufs:
            return str(gguf.converted(ggufs[0]))
    return source


def _holds_a_model(path: Path) -> bool:
    if not path.is_dir():
        return path.is_file()
    return any(file.name == "config.json" or file.suffix.lower() == ".gguf" for file in path.iterdir())
