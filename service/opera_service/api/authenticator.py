"""Who may call, and who may replace the weights: API keys, admin keys, and what is open without any.

It knows headers and key rings; no route's content.
"""

from __future__ import annotations

from hashlib import sha256

from fastapi import Request
from starlette.datastructures import Headers

from opera_client.errors import Forbidden, OperaError, Unauthorized
from opera_service.api.key_ring import KeyRing
from opera_service.api.loopback import is_loopback


class Authenticator:
    """Admits requests.

    An admin key opens everything, an API key everything but the replacing of weights. Without API keys all else
    is open; without admin keys weights can be replaced only on a service that is wholly local: bound to loopback,
    asked from loopback, without API keys, and not by a web page.
    """

    def __init__(self, api: KeyRing, admin: KeyRing, *, bound_to_loopback: bool) -> None:
        """`bound_to_loopback`: nobody but this machine reaches the service."""
        self._api, self._admin, self._bound_to_loopback = api, admin, bound_to_loopback
        api.keep_apart(admin)

    def check(self, headers: Headers) -> None:
        """Raise `Unauthorized` unless a key is given, as Bearer token or X-API-Key, where keys are asked for."""
        key = given_key(headers)
        if self._api and not (self._api.holds(key) or self._admin.holds(key)):
            raise _unauthorized("API key")

    def sender(self, headers: Headers) -> str:
        """Return a name for the key of a request that `check` let pass; empty where none is asked for."""
        return sha256(given_key(headers).encode()).hexdigest() if self._api else ""

    def check_admin(self, request: Request) -> None:
        """Raise `Unauthorized` without a known key, `Forbidden` when it may not replace the weights."""
        if not self._admin:
            self._check_local(request)
            return
        key = given_key(request.headers)
        if self._admin.holds(key):
            return
        if self._api.holds(key):
            raise Forbidden("an API key does not open this; send an admin key (our commands take OPERA_ADMIN_KEY)")
        raise _unauthorized("admin key")

    def _check_local(self, request: Request) -> None:
        peer = request.client.host if request.client else ""
        if self._api or not self._bound_to_loopback or not is_loopback(peer) or "origin" in request.headers:
            raise Forbidden("weights are replaced with an admin key; start the service with --admin-key-file")


def given_key(headers: Headers) -> str:
    """Return the key of a request; a Bearer token goes before X-API-Key."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _unauthorized(what: str) -> OperaError:
    return Unauthorized(f"the {what} is missing or wrong; send it as `Authorization: Bearer …` or `X-API-Key`")
