"""Tools that no Python package brings, and the metrics of a running service."""

import shutil
from collections.abc import Callable

import pytest

from .cluster import ROOT

TOOLS = ROOT / ".deploy-tools" / "usr" / "bin"


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program that `make .deploy-tools/.installed` brings, or that is installed anyway."""

    def find(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
        if found is None:
            pytest.skip(f"needs {name}: make test-deploy (README, More)")
        return found

    return find
