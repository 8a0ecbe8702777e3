"""The settings of replicas: those of `opera-reward serve`, without what is Serve's own business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from opera_client.wire import problem_of
from opera_service.server.settings import Settings, SettingsError, check

SERVES_OWN = ("host", "port", "ssl_certfile", "ssl_keyfile")


def settings_of(args: Mapping[str, Any]) -> Settings:
    """Return the settings that `args` and the environment make. Raises `SettingsError` for what is wrong."""
    for name in SERVES_OWN:
        if name in args:
            raise SettingsError(f"{name}: on Ray this is Serve's to know, see http_options")
    try:
        # Whoever reaches Serve's proxy reaches every replica, wherever it listens.
        settings = Settings(**{**args, "host": "0.0.0.0"})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{where}: {problem_of(first, Settings)}, got {first['input']!r}") from None
    check(settings)
    if not (settings.keys or settings.allow_open):
        raise SettingsError("anybody who reaches Serve could use this service; set OPERA_API_KEYS, or allow_open")
    return settings
