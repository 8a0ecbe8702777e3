"""The flags of `serve`, read together with the environment and the config file.

A flag wins over the environment, the environment over the `--config` file, the file over the default. Unknown
flags and keys are refused. It knows no single setting.
"""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from opera_service.server.setting_groups import GROUPS
from opera_service.server.settings import Settings, SettingsError, check


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
    """Build one flag per field, group by group; argparse only collects text, pydantic judges it."""
    parser = _Parser(
        prog=prog,
        usage="%(prog)s [--config FILE.yaml] [--SETTING VALUE ...]",
        description="Serve rewards over HTTP until interrupted.",
        epilog="Each flag is also a variable (--max-body-mb: OPERA_MAX_BODY_MB) and a key of the config file.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE.yaml", help="A file with settings as `key: value` lines.")
    for group in GROUPS:
        title, _, advice = inspect.cleandoc(group.__doc__ or "").partition("\n")
        shown = parser.add_argument_group(title, " ".join(advice.split()) or None)
        for name, field in group.model_fields.items():
            if name != "vllm":  # its flags are taken beforehand
                _add_flag(shown, name, field)
    return parser


def _add_flag(group: argparse._ArgumentGroup, name: str, field: FieldInfo) -> None:
    default = "" if field.default in (None, (), False) else f" (default: {field.default})"
    is_flag: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
    chosen = get_args(field.annotation) if get_origin(field.annotation) is Literal else None
    group.add_argument(
        f"--{name.replace('_', '-')}",
        **is_flag,
        choices=chosen,
        metavar=None if chosen else name.split("_")[-1].upper(),
        help=f"{field.description}{default}".replace("%", "%%"),
    )
