"""What a Serve configuration may say about a replica, and what stops the start."""

from __future__ import annotations

import os

import pytest

from opera_service.ray_serve.args import settings_of
from opera_service.server.settings import SettingsError


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OPERA_")]:
        monkeypatch.delenv(name)


def test_arguments_are_settings_and_the_environment_adds_keys(monkeypatch):
    monkeypatch.setenv("OPERA_API_KEYS", "one,two")
    monkeypatch.setenv("OPERA_ENGINE", "torch")
    settings = settings_of({"engine": "dummy", "max_batch_tokens": 100})
    assert (settings.engine, settings.max_batch_tokens, settings.keys) == ("dummy", 100, ("one", "two"))
    assert settings.host == "0.0.0.0"  # nobody is local behind Serve's proxy, so weights need an admin key


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"allow_open": True, "port": 9000}, "port: on Ray"),
        ({"allow_open": True, "engin": "dummy"}, "engin: is no field here"),
        ({"allow_open": True, "engine": "gpu"}, "engine: "),
        ({"allow_open": True, "policy_root": "/no/such/folder"}, "policy_root: "),
        ({"engine": "dummy"}, "OPERA_API_KEYS, or allow_open"),
    ],
)
def test_what_is_wrong_stops_the_start(args, said):
    with pytest.raises(SettingsError, match=said):
        settings_of(args)
