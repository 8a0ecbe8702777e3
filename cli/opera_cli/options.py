"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from opera_client.errors import BadInput
from opera_client.files.lines import STANDARD


def _file_or_stdout(out: Path | None) -> Path | None:
    return None if out == STANDARD else out


Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", callback=_file_or_stdout,
        help="The file for the results, .jsonl or .parquet. Without it, or with `-`, they go to standard output.",
    ),
]  # fmt: skip
Url = Annotated[
    str | None,
    typer.Option(
        envvar="OPERA_REWARD_URL", help="The URL of a running service. Its key is taken from OPERA_API_KEY."
    ),
]
Engine = Annotated[
    str | None, typer.Option(help="The engine to run in this process: torch (the default) or dummy.")
]
Model = Annotated[
    str | None,
    typer.Option(
        help="The model to run in this process: a path, a Hugging Face id, smollm2, or demo (the default)."
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, help="The requests that may be in flight at a time.")]
Timeout = Annotated[float, typer.Option(help="The seconds that one item may take with all its retries.")]


def parse_config(given: list[str]) -> dict[str, Any]:
    """Return the overrides of `--config key=value` and `--config '{"key": value}'`, later ones winning.

    A value is JSON where it can be read as such, else text; dots in a key lead inwards: `relative.margin=0.1`.

    Raises:
        BadInput: neither form.
    """
    config: dict[str, Any] = {}
    for part in given:
        name, equals, value = part.partition("=")
        if part.lstrip().startswith("{"):
            _merge(config, _object(part))
        elif equals and name.strip():
            inner: Any = _value(value)
            for key in reversed(name.strip().split(".")):
                inner = {key: inner}
            _merge(config, inner)
        else:
            raise BadInput(f"--config {part!r} is neither key=value nor a JSON object")
    return config


def _merge(config: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _merge(config[key], value)
        else:
            config[key] = value


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadInput(f"--config {text!r} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadInput(f"--config {text!r} is not a JSON object")
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
