"""Who may call, and who may replace the weights: API keys, admin keys, and what is open without any.

Keys are kept and compared as digests, so that comparing takes the same time for any key. Files of keys are read
again when they change. It knows headers and settings; no route's content.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from fastapi import Request
from pydantic import SecretStr
from starlette.datastructures import Headers

from opera_client.errors import Forbidden, OperaError, Unauthorized
from opera_service.api.loopback import is_loopback
from opera_service.server.settings import Settings, SettingsError, read_keys

logger = logging.getLogger(__name__)


class KeyRing:
    """Keys given at the start, and those in one file."""

    def __init__(self, keys: Sequence[SecretStr], field: str, file: Path | None) -> None:
        """`field` is the file's setting. Raises `SettingsError` when it cannot be read now."""
        self._own = _digests([key.get_secret_value() for key in keys])
        self._field, self._file = field, file
        self._stamp = self._stamp_now()
        self._read = _digests(read_keys(field, file))

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
            self._read = _digests(read_keys(self._field, self._file))
        except SettingsError as error:
            logger.error("the keys stay as they were: %s", error)

    def _stamp_now(self) -> tuple[int, ...] | None:
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns


class Authenticator:
    """Lets requests in.

    An admin key opens everything, an API key everything but the replacing of weights. Without API keys all else
    is open; without admin keys weights can be replaced only on a service that is wholly local: bound to loopback,
    asked from loopback, without API keys, and not by a web page.
    """

    def __init__(self, settings: Settings) -> None:
        self._api = KeyRing(settings.api_keys, "api_key_file", settings.api_key_file)
        self._admin = KeyRing(settings.admin_keys, "admin_key_file", settings.admin_key_file)
        self._bound_to_loopback = is_loopback(settings.host)

    def check(self, headers: Headers) -> None:
        """Raise `Unauthorized` unless a key is given, as Bearer token or X-API-Key, where keys are asked for."""
        key = given_key(headers)
        if self._api and not (self._api.holds(key) or self._admin.holds(key)):
            raise _unauthorized("API key")

    def check_admin(self, request: Request) -> None:
        """Raise `Unauthorized` without a known key, `Forbidden` when it may not replace the weights."""
        if not self._admin:
            self._check_local(request)
            return
        key = given_key(request.headers)
        if self._admin.holds(key):
            return
        if self._api.holds(key):
            raise Forbidden("an API key does not open this; send an admin key")
        raise _unauthorized("admin key")

    def _check_local(self, request: Request) -> None:
        peer = request.client.host if request.client else ""
        if self._api or not self._bound_to_loopback or not is_loopback(peer) or "origin" in request.headers:
            raise Forbidden("weights are replaced with an admin key; start the service with --admin-key-file")


def given_key(headers: Headers) -> str:
    """Return the key of a request; a Bearer token goes before X-API-Key."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _digests(keys: Sequence[str]) -> list[bytes]:
    return [sha256(key.encode()).digest() for key in keys]


def _unauthorized(what: str) -> OperaError:
    return Unauthorized(f"the {what} is missing or wrong; send it as `Authorization: Bearer …` or `X-API-Key`")
