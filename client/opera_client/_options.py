"""What both clients take, and what they take it to be when nothing is said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypedDict

import httpx

from opera_client.network import header_value

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 3600.0
"""Seconds for one call with all its chunks and retries: an hour, so that no long trajectory is cut off
unnoticed. Pass `timeout=None` to wait for ever."""


class ClientOptions(TypedDict, total=False):
    """The keyword arguments that both clients take; their meaning is at `AsyncRewardClient`."""

    api_key: str | None
    headers: Mapping[str, str] | None
    timeout: float | None
    retries: int
    max_items: int
    max_bytes: int
    concurrency: int
    transport: httpx.AsyncBaseTransport | None


def request_headers(headers: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """Return what every request carries; the key is `OPERA_API_KEY` unless it is given.

    Raises `InvalidRequest` for what cannot stand in a header.
    """
    found = {
        header_value(name, "headers"): header_value(value, "headers") for name, value in (headers or {}).items()
    }
    if key := api_key or os.environ.get("OPERA_API_KEY"):
        key = header_value(key, "api_key" if api_key else "OPERA_API_KEY")
        found.setdefault("Authorization", f"Bearer {key}")
    return found
