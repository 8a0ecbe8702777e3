"""Files that a command will write: found out before the long work, and never over what it reads or also writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from opera_client.errors import BadInput


def must_be_writable(path: Path, option: str, *, others: Mapping[str, Path | None]) -> None:
    """Find out whether `path`, given as `option`, can become a file of its own.

    Args:
        path: where something will be written.
        option: how the user gave it, as `--plot`.
        others: files that the same command reads or writes, by what a message calls them.

    Raises:
        BadInput: it is one of `others`, a directory, or in a folder that does not exist.
    """
    for name, other in others.items():
        if other is not None and same_file(path, other):
            raise BadInput(f"{path} is {name}; choose another {option}")
    if path.is_dir():
        raise BadInput(f"{path} is a directory; give a file name for {option}")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"cannot write {path}: its folder does not exist; choose another {option}")


def same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file, by whatever links; files that are not there, by their names."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
