"""How an address is reached: proxies, certificates and keys of the environment, refused by name when wrong.

No message holds the value of a variable: keys and passwords of proxies stand there.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from opera_client.errors import InvalidRequest

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def address(url: str, *, field: str = "url") -> str:
    """Return `url` without a trailing slash. Raises `InvalidRequest` when it is no http(s) address."""
    try:
        parsed = httpx.URL(url)
        ok = parsed.scheme in ("http", "https") and bool(parsed.host)
        port = parsed.port
    except (httpx.InvalidURL, ValueError, TypeError):
        ok, port = False, None
    if not ok:
        raise InvalidRequest(f"{url!r} is no address; give one like http://localhost:8000", field=field)
    if port is not None and not 1 <= port <= 65535:
        raise InvalidRequest(f"{url!r}: ports are 1 to 65535", field=field)
    return url.rstrip("/")


def header_value(value: object, field: str) -> str:
    """Return what a header is to carry, a key for instance.

    Raises `InvalidRequest`, which never quotes it, when it is no line of visible ASCII characters.
    """
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
        raise InvalidRequest("must be one line of ASCII characters, for it travels in a header", field=field)
    return value


def http_client(url: str, headers: Mapping[str, str], **options: Any) -> httpx.AsyncClient:
    """Return a client for `url`; what is on this machine is never asked through a proxy.

    Raises `InvalidRequest` naming the variable of the environment that is wrong.
    """
    verify = _certificates() if url.startswith("https:") else False
    if options.get("transport") is not None or is_loopback(httpx.URL(url).host):
        return httpx.AsyncClient(base_url=url, headers=headers, verify=verify, trust_env=False, **options)
    try:
        return httpx.AsyncClient(base_url=url, headers=headers, verify=verify, **options)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise InvalidRequest(f"names a proxy that cannot be used ({_kind(error)})", field=_set(_PROXIES)) from None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address says that it is this machine."""
    host = host.strip("[]")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def through(url: str) -> str:
    """Return which variable leads to a proxy on the way to `url`, for messages; empty where none does."""
    return "" if is_loopback(httpx.URL(url).host) else _set(_PROXIES[:3])


def _certificates() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError):
        raise InvalidRequest(
            "names certificates that cannot be read; correct or unset it", field=_set(_CERTIFICATES)
        ) from None


def _set(names: tuple[str, ...]) -> str:
    return ", ".join(one for name in names for one in (name, name.lower()) if os.environ.get(one))


def _kind(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "SOCKS needs the package socksio: pip install 'httpx[socks]'"
    return "its address is wrong; it must be like http://proxy:3128"
