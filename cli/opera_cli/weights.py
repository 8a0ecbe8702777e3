"""`opera-reward weights`: give a running service other weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from opera_cli.exits import one_line_errors, say
from opera_client import RewardClient
from opera_client.wire import PolicyLoadResult

Version = Annotated[
    str, typer.Option("--version", help="The name of these weights, for ever. Every answer carries it.")
]
CanaryLogprob = Annotated[
    float | None,
    typer.Option(
        help="The canary's mean log-probability on your model (see GET /policy). Weights with another are refused."
    ),
]
Timeout = Annotated[float, typer.Option(help="The seconds that the whole transfer may take, retries included.")]

Url = Annotated[
    str | None,
    typer.Option(
        envvar="OPERA_REWARD_URL",
        help="The URL of a running service. Its admin key is taken from OPERA_ADMIN_KEY.",
    ),
]

weights = typer.Typer(no_args_is_help=True, help="Give a running service other weights.")


@weights.command("push")
def push(
    path: Annotated[
        Path,
        typer.Argument(help="A .safetensors file or a checkpoint's folder.", metavar="PATH", show_default=False),
    ],
    version: Version,
    url: Url = None,
    canary_logprob: CanaryLogprob = None,
    timeout: Timeout = 3600.0,
) -> None:
    """Send weights to a service, which serves them once they are whole and checked.

    The admin key is taken from OPERA_ADMIN_KEY, else OPERA_API_KEY.

    Exit codes: 0 they serve; 2 they were refused and the old ones serve on; 3 service unreachable.
    """
    with one_line_errors("weights push"), _client(url, timeout) as client:
        _tell(client.push_weights(path, version, canary_logprob=canary_logprob))


@weights.command("load")
def load(
    path: Annotated[
        str, typer.Argument(help="Absolute path on the service's machine.", metavar="PATH", show_default=False)
    ],
    version: Version,
    url: Url = None,
    canary_logprob: CanaryLogprob = None,
    timeout: Timeout = 3600.0,
) -> None:
    """Let a service read weights from its own disk, below one of its --policy-root folders.

    Key and exit codes are those of `push`.
    """
    with one_line_errors("weights load"), _client(url, timeout) as client:
        _tell(client.load_policy(path, version, canary_logprob=canary_logprob))


def _client(url: str | None, timeout: float) -> RewardClient:
    return RewardClient(url, api_key=os.environ.get("OPERA_ADMIN_KEY"), timeout=timeout, retries=2)


def _tell(result: PolicyLoadResult) -> None:
    if not result.changed:
        say(f"{result.name} serves {result.weight_version} already ({result.revision[:19]})")
        return
    say(
        f"{result.name} serves {result.weight_version} after {result.previous_version} ({result.revision[:19]}), "
        f"canary {result.canary_before:.4f} -> {result.canary.mean_logprob:.4f}, {result.load_s:.2f} s"
    )
