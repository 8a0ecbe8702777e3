"""The flags of `serve`, read together with the environment and the config file.

A flag wins over the environment, the environment over the `--config` file, the file over the default. Unknown
flags and keys are refused. It knows no single setting.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import typer
import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from opera_client.wire import problem_of
from opera_service.server.setting_groups import GROUPS
from opera_service.server.settings import Settings, SettingsError, check


def load_settings(argv: Sequence[str], *, prog: str = "opera-reward serve") -> Settings:
    """Read flags, environment and config file. Raises `SettingsError`; `--help` exits."""
    argv, vllm_flags = _take_vllm_flags(argv)
    flags = _parse(_with_values(argv), prog)
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
            raise SettingsError(f"{config}: {name} {problem_of(first, Settings)} (see `{prog} --help`)") from None
        if first["type"] == "value_error":  # ours, and complete
            raise SettingsError(f"{name}: {first['ctx']['error']}") from None
        raise SettingsError(f"{name}: {problem_of(first)}, got {repr(first['input'])[:80]}") from None
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


_FIELDS = {
    name: (field, group)
    for group in GROUPS
    for name, field in group.model_fields.items()
    if name != "vllm"  # its flags are taken beforehand
}
_SWITCHES = {f"--{name.replace('_', '-')}" for name, (field, _) in _FIELDS.items() if field.annotation is bool}
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Click's; newer versions of typer carry it within themselves."""


def _with_values(argv: Sequence[str]) -> list[str]:
    """Say `true` behind a switch that stands alone: typer's switches take no value, these may."""
    given: list[str] = []
    for flag, following in zip(argv, [*argv[1:], "--"], strict=False):
        given.append(flag)
        if flag in _SWITCHES and following.startswith("--"):
            given.append("true")
    return given


def _parse(argv: Sequence[str], prog: str) -> dict[str, Any]:
    """Return the settings that flags give; typer only collects text, pydantic judges it."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command(epilog=_epilog())(_collector())
    try:
        given = app(args=list(argv), prog_name=prog, standalone_mode=False)
    except _UsageError as error:
        said = error.format_message().replace("Value error, ", "").rstrip(".")  # type: ignore[attr-defined]
        raise SettingsError(f"{said}; see `{prog} --help`") from None
    if not isinstance(given, dict):  # help was shown
        raise SystemExit(0)
    return {name: value for name, value in given.items() if value is not None}


def _collector() -> Callable[..., dict[str, Any]]:
    """Return a function with one optional parameter a setting, as typer reads them; it returns what it got."""

    def serve(**given: Any) -> dict[str, Any]:
        """Serve rewards over HTTP until interrupted."""
        return given

    config = typer.Option(metavar="FILE.yaml", help="A file with settings as `key: value` lines.")
    options = {"config": Annotated[str | None, config]}
    for name, (field, group) in _FIELDS.items():
        options[name] = Annotated[_text(field) | None, _option(name, field, group)]
    serve.__annotations__ = options
    serve.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for name, option in options.items()
        ]
    )
    return serve


def _text(field: FieldInfo) -> Any:
    return field.annotation if get_origin(field.annotation) is Literal else str


def _option(name: str, field: FieldInfo, group: type[BaseModel]) -> Any:
    default = "" if field.default in (None, (), False) else f" (default: {field.default})"
    metavar = "[true|false]" if field.annotation is bool else name.split("_")[-1].upper()
    return typer.Option(
        f"--{name.replace('_', '-')}",
        metavar=None if _text(field) is not str else metavar,
        help=f"{field.description}{default}",
        rich_help_panel=_title(group)[0],
    )


def _title(group: type[BaseModel]) -> tuple[str, str]:
    title, _, advice = inspect.cleandoc(group.__doc__ or "").partition("\n")
    return title, " ".join(advice.split())


def _epilog() -> str:
    """How the groups are sized, and where else settings come from."""
    advice = [f"* **{title}.** {said}" for title, said in map(_title, GROUPS) if said]
    other = "Each flag is also a variable (--max-body-mb: OPERA_MAX_BODY_MB) and a key of the config file."
    return "\n".join([*advice, "", other])
