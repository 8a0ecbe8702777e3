"""`opera-reward demo`: the whole service once, on its own model and tasks, over real HTTP.

Knows how to start and stop the service in this process; what is sampled is in `rollouts`, what is said in `show`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path


def run(argv: list[str]) -> int:
    """Watch the embedded model think, and its thoughts being rewarded: a minute, no network."""
    options = _parser().parse_args(argv)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"opera-reward demo: cannot write to {options.out}: {error.strerror}; choose another --out",
            file=sys.stderr,
        )
        return 2
    return asyncio.run(_demo(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opera-reward demo", description=run.__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for the files (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws tasks and responses (default: %(default)s)")
    parser.add_argument(
        "--responses",
        type=int,
        default=4,
        choices=range(2, 17),
        metavar="2..16",
        help="per question (default: %(default)s)",
    )
    parser.add_argument(
        "--preset", default="hardened", help="of the OPERA reward: hardened or paper (default: %(default)s)"
    )
    parser.add_argument("--model", help="another model folder (default: the embedded model)")
    return parser
