"""The built page, as bytes: read once, since it is small."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class StaticFile:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str


@cache
def static_files() -> dict[str, StaticFile]:
    """Return every file by its path below `ui/`, such as `assets/page.js`."""
    return dict(_found(files("opera_service.ui").joinpath("static"), ""))


def _found(folder: Traversable, prefix: str) -> list[tuple[str, StaticFile]]:
    found: list[tuple[str, StaticFile]] = []
    for one in folder.iterdir():
        name = prefix + one.name
        if one.is_dir():
            found += _found(one, f"{name}/")
        else:
            content = one.read_bytes()
            kind = MEDIA_TYPES[name[name.rindex(".") :]]
            found.append((name, StaticFile(content, kind, f'"{sha256(content).hexdigest()[:16]}"')))
    return found
