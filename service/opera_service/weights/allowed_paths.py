"""Where weights may be read from: folders that the operator named, and nothing that a link leads out of.

Knows paths; no model and no HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from opera_client.errors import Forbidden, InvalidWeights
from opera_service.engines.adapter import CONFIG
from opera_service.engines.checkpoint import INDEX, weight_files


class WeightRoots:
    """The folders given by `--policy-root`."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [root.resolve() for root in roots]

    def find(self, path: str) -> Path:
        """Return the safetensors file or folder at the absolute `path`, its links followed.

        Raises `Forbidden` when it, or a file of the checkpoint, lies outside of all roots, whether or not there is
        anything; `InvalidWeights` when there is nothing to read inside.
        """
        if not self._roots:
            raise Forbidden("the service reads no weights from disk; start it with --policy-root", field="path")
        found = self._inside(Path(path))
        try:
            if not found.exists():
                raise InvalidWeights("there is nothing at that path", field="path")
            described = [path for path in (found / INDEX, found / CONFIG) if path.is_file()]
            for file in (*weight_files(found), *described):
                self._inside(file)
        except OSError as error:
            raise InvalidWeights(f"the path cannot be read: {error.strerror or error}", field="path") from None
        return found

    def _inside(self, path: Path) -> Path:
        try:
            # As absolute as asked: a relative path would depend on where the service happens to run.
            resolved = path.resolve() if path.is_absolute() else None
        except (OSError, ValueError, RuntimeError):  # too long, a NUL inside, links in a circle
            resolved = None
        if resolved is None or not any(resolved.is_relative_to(root) for root in self._roots):
            raise Forbidden("the path lies in no --policy-root of the service; give an absolute one", field="path")
        return resolved
