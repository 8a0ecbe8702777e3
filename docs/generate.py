"""Writes docs/cli.md and docs/settings.md from the code (`make docs`); a test keeps them current."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

from opera_service.server.setting_groups import GROUPS

HERE = Path(__file__).parent
COMMANDS = (
    "serve", "demo", "check", "score", "rank", "weights push", "weights load", "audit export", "audit replay",
    "fetch-model", "bench", "train", "train run", "train ablate",
)  # fmt: skip


def settings_page() -> str:
    """Return every setting of `serve`: flag, variable, default, meaning."""
    parts = [
        "# Settings of `opera-reward serve`\n",
        "Made from the code by `make docs`. Each setting is a flag, an environment variable, and a key of",
        "the file that `--config` names. A flag wins over the environment, the environment over the file.",
    ]
    for group in GROUPS:
        title, _, advice = inspect.getdoc(group).partition("\n")  # type: ignore[union-attr]
        parts += ["", f"## {title.strip()}", "", *([" ".join(advice.split()), ""] if advice.strip() else [])]
        parts += ["| setting | variable | default | meaning |", "|---|---|---|---|"]
        for name, field in group.model_fields.items():
            default = field.get_default(call_default_factory=True)
            shown = "" if default in (None, ()) else f"`{default}`" if not hasattr(default, "model_dump") else ""
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            parts.append(f"| `--{name.replace('_', '-')}` | `OPERA_{name.upper()}` | {shown} | {meaning} |")
    return "\n".join(parts) + "\n"


def help_of(command: str) -> str:
    """Return what a command's `--help` prints, 100 columns wide and without colours."""
    plain = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "opera_cli", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("OPERA_")}, **plain},
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())


def cli_page() -> str:
    """Return the help of every command."""
    parts = ["# Command line\n", "This page is made from the code by `make docs`.\n"]
    parts += [f"## `opera-reward {command}`\n\n```text\n{help_of(command)}\n```\n" for command in COMMANDS]
    parts += [
        "Exit codes: 0 all done; 1 some items failed, or `check` warns; 2 bad usage or input, or `check` says",
        "unfit; 3 the service is unreachable; 130 interrupted.",
    ]
    return "\n".join(parts) + "\n"


def words(page: str) -> list[str]:
    """Return what a page says, without the layout that depends on a library's version."""
    return re.findall(r"[\w.-]+", page)


if __name__ == "__main__":
    (HERE / "settings.md").write_text(settings_page(), encoding="utf-8")
    (HERE / "cli.md").write_text(cli_page(), encoding="utf-8")
