"""Tools that no Python package brings, and the chart with everything on."""

import shutil
from collections.abc import Callable
from copy import deepcopy

import pytest

from .cluster import ROOT, Object, helm

TOOLS = ROOT / ".deploy-tools" / "usr" / "bin"
EVERYTHING = {
    "gpu": {"enabled": True},
    "modelCache": {"enabled": True, "volume": "shared"},
    "monitoring": {"kind": "operator"},
    "networkPolicy": {name: {"enabled": True} for name in ("otlp", "mesh", "vllmHttp")} | {"enabled": True},
    "routing": {"kind": "envoy-gateway"},
    "inferencePool": {"enabled": True},
    "kueue": {"enabled": True},
    "autoscaling": {"kind": "keda"},
}
"""Values that switch on all that goes together."""


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program that `make .deploy-tools/.installed` brings, or that is installed anyway."""

    def find(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
        if found is None:
            pytest.skip(f"needs {name}: make test-deploy (README, More)")
        return found

    return find


@pytest.fixture
def everything_on() -> list[Object]:
    return deepcopy(helm(values=EVERYTHING))
