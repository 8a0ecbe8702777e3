"""Keys that were given, and those in a file that is read again when it changes.

Kept and compared as digests, so that comparing takes the same time for any key. It knows no header and no setting.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

logger = logging.getLogger(__name__)


class KeyFileError(ValueError):
    """A file of keys cannot be used; the message is one line that names its setting."""


UNSENDABLE = "a key must be one line of ASCII characters, for it travels in a header"


def can_travel(key: str) -> bool:
    """Whether a client can send `key`; one that nobody can send would lock everybody out."""
    return key.isascii() and key.isprintable()


def read_keys(field: str, path: Path | None) -> tuple[str, ...]:
    """Return the keys in a file, one a line; none without a file. Raises `KeyFileError` naming `field`."""
    if path is None:
        return ()
    try:
        lines = tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{field}: cannot read {path}: {error}") from None
    if not lines:
        raise KeyFileError(f"{field}: {path} holds no key")
    if not all(map(can_travel, lines)):
        raise KeyFileError(f"{field}: {path}: {UNSENDABLE}")
    return lines


class KeyRing:
    """Keys given at the start, and those in one file."""

    def __init__(self, keys: Sequence[str], field: str, file: Path | None) -> None:
        """`field` is the file's setting. Raises `KeyFileError` when it cannot be read now."""
        self._own = _digests(keys)
        self._field, self._file = field, file
        self._stamp = self._stamp_now()
        self._read = _digests(read_keys(field, file))
        self._other: KeyRing | None = None

    def keep_apart(self, other: KeyRing) -> None:
        """Take no key that `other` has, when the file is read again; at the start that stops the service."""
        self._other, other._other = other, self

    def __bool__(self) -> bool:
        """Whether keys are asked for at all."""
        return bool(self._own or self._read)

    def holds(self, key: str) -> bool:
        """Whether `key` is one of them. A file that became unreadable or empty leaves the keys as they were."""
        self._read_again_if_changed()
        digest = sha256(key.encode()).digest()
        matches = [hmac.compare_digest(digest, known) for known in (*self._own, *self._read)]
        return any(matches) and bool(key)

    def _read_again_if_changed(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            read = _digests(read_keys(self._field, self._file))
            if self._other is not None and {*self._own, *read} & {*self._other._own, *self._other._read}:  # noqa: SLF001
                raise KeyFileError(f"{self._field}: a key is an API key and an admin key")
            self._read = read
        except KeyFileError as error:
            logger.error("the keys stay as they were: %s", error)

    def _stamp_now(self) -> tuple[int, ...] | None:
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


def _digests(keys: Sequence[str]) -> list[bytes]:
    return [sha256(key.encode()).digest() for key in keys]
