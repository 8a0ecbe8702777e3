"""Every setting of the service, once: a field is a flag of `serve`, an `OPERA_…` variable and a YAML key.

The fields stand in `setting_groups`, derived values and what must stop the start stand here.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from opera_service.api.key_ring import KeyFileError, read_keys
from opera_service.model_store.folders import EMBEDDED
from opera_service.server.setting_groups import (
    Access,
    Address,
    Caches,
    Members,
    Model,
    NewWeights,
    Queue,
    Requests,
    Vllm,
    Watching,
)

_LARGEST = 1e9


class SettingsError(ValueError):
    """A flag, variable or key is wrong; the message is one line that names it."""


class Settings(Address, Access, Model, Vllm, NewWeights, Requests, Queue, Members, Caches, Watching, BaseSettings):
    """One service process."""

    model_config = SettingsConfigDict(
        env_prefix="OPERA_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @field_validator("*")
    @classmethod
    def _countable(cls, value: object) -> object:
        """Seconds and megabytes become clock times and bytes: past this they would be neither."""
        if isinstance(value, int | float) and value > _LARGEST:
            raise ValueError(f"must be at most {_LARGEST:g}")
        return value

    @property
    def ui_memory_bytes(self) -> int:
        """What the live page may keep, in bytes."""
        return int(self.ui_memory_mb * 2**20)

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 2**20)

    @property
    def model_path(self) -> str:
        """What to load: `model`, or the folder of the embedded model."""
        return self.model or EMBEDDED

    @property
    def keys(self) -> tuple[str, ...]:
        """All accepted API keys, from `api_keys` and `api_key_file`."""
        return tuple(key.get_secret_value() for key in self.api_keys) + _keys_in("api_key_file", self.api_key_file)

    @property
    def all_admin_keys(self) -> tuple[str, ...]:
        """All accepted admin keys, from `admin_keys` and `admin_key_file`."""
        own = tuple(key.get_secret_value() for key in self.admin_keys)
        return own + _keys_in("admin_key_file", self.admin_key_file)

    @property
    def vllm_key(self) -> str | None:
        """The key for `vllm_url`, from `vllm_api_key` or `vllm_api_key_file`."""
        if self.vllm_api_key is not None:
            return self.vllm_api_key.get_secret_value()
        return next(iter(_keys_in("vllm_api_key_file", self.vllm_api_key_file)), None)

    @property
    def max_weights_bytes(self) -> int:
        """The limit of pushed weights in bytes."""
        return int(self.max_weights_gb * 2**30)


def _keys_in(field: str, path: Path | None) -> tuple[str, ...]:
    try:
        return read_keys(field, path)
    except KeyFileError as error:
        raise SettingsError(str(error)) from None


def check(settings: Settings) -> None:
    """Raise `SettingsError` for what must stop the start, not the first request that needs it."""
    if set(settings.keys) & set(settings.all_admin_keys):
        raise SettingsError("admin_keys: an API key is among them; give the policy endpoints keys of their own")
    if settings.audit is not None and not settings.audit.absolute().parent.is_dir():
        raise SettingsError(f"audit: {settings.audit.absolute().parent} is not a folder")
    for root in settings.policy_root:
        if not root.is_dir():
            raise SettingsError(f"policy_root: {root} is not a folder")
    if settings.route != "auto" and settings.engine != "torch":
        raise SettingsError(f"route: --route is for the torch engine, not for {settings.engine}; leave it out")
    if settings.second_model is not None and settings.engine == "dummy":
        raise SettingsError(
            "second_model: the dummy engine has no text in common with a model; use another engine"
        )
    if settings.second_device != "auto" and settings.second_model is None:
        raise SettingsError("second_device: there is no --second-model to put there; give one or leave this out")
    if settings.engine == "vllm-http":
        if settings.vllm_url is None:
            raise SettingsError("vllm_url: --engine vllm-http asks a vLLM server; say which with --vllm-url")
        settings.vllm_key  # noqa: B018  an unreadable key file must stop the start
    if settings.ssl_keyfile is not None and settings.ssl_certfile is None:
        raise SettingsError("ssl_keyfile: give --ssl-certfile, too")
    for name in ("ssl_certfile", "ssl_keyfile"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise SettingsError(f"{name}: there is no file {path}")
