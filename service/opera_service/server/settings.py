"""Every setting of the service, once: a field is a flag of `serve`, an `OPERA_…` variable and a YAML key.

A flag wins over the environment, the environment over the `--config` file, the file over the default.
Unknown flags and keys are refused. It knows names and ranges, not what they configure.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

import yaml
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from opera_client.wire import WeightVersion
from opera_service.api.key_ring import KeyFileError, read_keys
from opera_service.engines.vllm.settings import VllmSettings
from opera_service.observability.logs import LogFormat

EngineName = Literal["dummy", "torch", "vllm", "vllm-http"]
RouteName = Literal["auto", "tree_sdpa", "flex", "kv_fork", "naive"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16", "float64"]
WeightsModeName = Literal["shadow", "in_place"]


_LARGEST = 1e9


class SettingsError(ValueError):
    """A flag, variable or key is wrong; the message is one line that names it."""


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Keys = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
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

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all interfaces.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    engine: EngineName = Field("torch", description="`dummy` needs no model and is for tests.")
    model: str | None = Field(
        None,
        description="Folder, GGUF file or Hugging Face id of a causal LM, or `smollm2` (see `fetch-model`); the"
        " embedded demo model by default.",
    )
    weight_version: WeightVersion = Field("0", description="Name of the loaded weights, in every answer.")
    route: RouteName = Field("auto", description="How the torch engine computes token trees.")
    dtype: DtypeName = Field("auto", description="`auto`: float32 on CPU, bfloat16 on CUDA.")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1`, …")
    max_batch_tokens: int | None = Field(
        None, ge=1, description="Distinct tree tokens per engine call; by default what the engine prefers."
    )
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model.")
    weights_mode: WeightsModeName = Field(
        "shadow", description="How new policy weights come in: `shadow` doubles their memory while they load."
    )
    vllm: VllmSettings = Field(
        VllmSettings(), description="--vllm.NAME VALUE: any argument of vLLM's engine; OPERA_VLLM__NAME; `vllm:`."
    )
    vllm_url: str | None = Field(None, description="Address of the vLLM server that --engine vllm-http asks.")
    vllm_api_key: SecretStr | None = Field(None, description="The key that server wants.")
    vllm_api_key_file: Path | None = Field(None, description="File that holds it.")
    api_keys: Keys = Field((), description="Accepted keys, comma-separated; none means open.")
    api_key_file: Path | None = Field(None, description="File with one accepted key a line, read again on change.")
    admin_keys: Keys = Field((), description="Keys that may also replace the policy's weights, comma-separated.")
    admin_key_file: Path | None = Field(None, description="File with one admin key a line, read again on change.")
    allow_open: bool = Field(
        False, description="Let everybody in, without keys, on addresses beyond this machine."
    )
    open_metrics: bool = Field(
        False, description="Let GET /metrics in without a key, for collectors that send none."
    )
    ssl_certfile: Path | None = Field(None, description="Certificate chain in PEM; then https is spoken.")
    ssl_keyfile: Path | None = Field(None, description="Its private key in PEM, unless it is in the same file.")
    cors_origin: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="Origins whose web pages may call, comma-separated."
    )
    policy_root: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="Folders that POST /policy/load may read, comma-separated."
    )
    spool_dir: Path | None = Field(None, description="Folder for weights that arrive; by default a temporary one.")
    max_weights_gb: float = Field(64.0, gt=0, description="Larger PUT /policy/weights are refused with 413.")
    canary_tolerance: float = Field(
        0.05, gt=0, description="Nats by which the canary may differ from the sender's own number."
    )
    audit: Path | None = Field(None, description="SQLite file that every rewarded trajectory is written to.")
    audit_texts: bool = Field(
        False, description="Keep there what was sent, too (texts, token ids), as replaying needs."
    )
    audit_queue_mb: float = Field(
        64.0, gt=0, description="What may wait to be written there; past it, entries are lost and counted."
    )
    ui: bool = Field(False, description="Serve the live page at /ui; it shows texts only with --audit-texts.")
    ui_memory_mb: float = Field(
        256.0, gt=0, description="What the page may keep in memory; with --audit it reads the audit log instead."
    )
    otlp_endpoint: str | None = Field(
        None, description="Send OpenTelemetry traces to this OTLP/HTTP address, such as http://localhost:4318."
    )
    log_prompts: bool = Field(False, description="Let log lines about failures quote what was sent.")
    max_connections: int = Field(
        16_384, ge=1, description="Open at a time; past it, idle ones give way, then new ones get 503."
    )
    head_timeout_s: float = Field(
        10.0, gt=0, description="How long a connection may take to send a request's first line and headers."
    )
    max_body_mb: float = Field(32.0, gt=0, description="Larger request bodies are refused with 413.")
    max_queue_requests: int = Field(1024, ge=1, description="Requests that may wait for the engine at a time.")
    max_queue_tokens: int = Field(32 * 2**20, ge=1, description="Distinct tree tokens that may wait at a time.")
    overload_status: Annotated[Literal["429", "503"], BeforeValidator(str)] = Field(
        "429", description="Status of refusals for overload; verl's client gives up at a 429."
    )
    cache_mb: float = Field(256.0, ge=0, description="Memory for scores computed before, by weights; 0: none.")
    replay_mb: float = Field(64.0, ge=0, description="Memory for answers to requests with an Idempotency-Key.")
    keep_replays_s: float = Field(600.0, ge=0, description="How long they are kept.")
    max_groups: int = Field(256, ge=1, description="Groups in one request; more are refused with 413.")
    max_trajectories: int = Field(4096, ge=1, description="Trajectories in one request, or group that gathers.")
    max_items: int = Field(1024, ge=1, description="Items, or prompts, in one request.")
    max_branches: int = Field(1024, ge=1, description="Candidates, or branches to sample, of one item.")
    max_request_tokens: int = Field(8 * 2**20, ge=1, description="Distinct tokens to compute in one request.")
    encode_threads: int = Field(2, ge=1, le=1024, description="Worker threads for tokenising and reading scores.")
    max_waiting_groups: int = Field(4096, ge=1, description="Groups that gather member by member, at a time.")
    max_waiting_members: int = Field(65_536, ge=1, description="Places in them, taken when a group opens.")
    max_waiting_tokens: int = Field(64 * 2**20, ge=1, description="Tokens in them; four characters count as one.")
    max_kept_answers: int = Field(65_536, ge=0, description="Answers remembered for members that come again.")
    keep_answers_s: float = Field(600.0, ge=0, description="How long they are remembered.")
    keep_members_s: float = Field(600.0, gt=0, description="How long a member keeps its place while nobody waits.")
    engine_stall_s: float = Field(
        300.0, gt=0, description="An engine that shows no sign of life for so long, with work, is replaced."
    )
    drain_timeout: float = Field(30.0, ge=0, description="On SIGTERM, seconds to let running requests finish.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="Log to stderr; `info` has a line a request."
    )
    log_format: LogFormat = Field("text", description="`json`: one object a line, with the request's id.")
    dummy_token_seconds: float = Field(
        0.0, ge=0, description="The dummy engine sleeps this long per token, for load tests."
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
        """The body limit in bytes."""
        return int(self.max_body_mb * 2**20)

    @property
    def model_path(self) -> str:
        """What to load: `model`, or the folder of the embedded model."""
        return self.model or str(files("opera_demo").joinpath("model"))

    @property
    def model_name(self) -> str:
        """How answers and `/v1/models` call the model."""
        return self.model or "demo"

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


def load_settings(argv: Sequence[str], *, prog: str = "opera-reward serve") -> Settings:
    """Read flags, environment and config file. Raises `SettingsError`; `--help` exits like argparse does."""
    argv, vllm_flags = _take_vllm_flags(argv)
    flags = vars(_parser(prog).parse_args(argv))
    config = flags.pop("config", os.environ.get("OPERA_CONFIG"))
    from_file = _without_environment(_read_config(Path(config)) if config else {}, "OPERA_")
    if isinstance(block := from_file.get("vllm", {}), dict):
        flags["vllm"] = {**_without_environment(block, "OPERA_VLLM__"), **vllm_flags}
    try:
        settings = Settings(**{**from_file, **flags})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{config}: unknown key {name!r}; see `{prog} --help`") from None
        if first["type"] == "value_error":  # ours, and complete
            raise SettingsError(f"{name}: {first['ctx']['error']}") from None
        raise SettingsError(f"{name}: {first['msg']}, got {repr(first['input'])[:80]}") from None
    check(settings)
    return settings


def _take_vllm_flags(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split off `--vllm.NAME VALUE`, `--vllm.NAME=VALUE` and the switch `--vllm.NAME`."""
    rest: list[str] = []
    found: dict[str, str] = {}
    waiting = list(argv)
    while waiting:
        flag, equals, value = waiting.pop(0).partition("=")
        if not flag.startswith("--vllm."):
            rest.append(flag + equals + value)
        else:
            if not equals:
                value = waiting.pop(0) if waiting and not waiting[0].startswith("--") else "true"
            found[flag.removeprefix("--vllm.").replace("-", "_")] = value
    return rest, found


def _without_environment(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not os.environ.get(f"{prefix}{str(key).upper()}")}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"config: cannot read {path}: {reason}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsError(f"config: {path} must hold `key: value` lines")
    return content


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see `{self.prog} --help`")


def _parser(prog: str) -> argparse.ArgumentParser:
    """Build one flag per field; argparse only collects text, pydantic judges it."""
    parser = _Parser(
        prog=prog,
        description="Serve rewards over HTTP until interrupted.",
        epilog="Each flag is also a variable (--max-body-mb: OPERA_MAX_BODY_MB) and a key of the config file.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE.yaml", help="Settings as `key: value` lines.")
    for name, field in Settings.model_fields.items():
        if name == "vllm":
            parser.add_argument_group("vLLM", field.description)
            continue
        default = "" if field.default in (None, (), False) else f" (default: {field.default})"
        is_flag: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            **is_flag,
            choices=get_args(field.annotation) if get_origin(field.annotation) is Literal else None,
            metavar=None if get_origin(field.annotation) is Literal else name.split("_")[-1].upper(),
            help=f"{field.description}{default}".replace("%", "%%"),
        )
    return parser
