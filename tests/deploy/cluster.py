"""The objects of deploy/, as kubectl and helm make them. Knows files and tools; asserts nothing."""

import re
import shutil
import subprocess
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import helm_python
import pytest
import yaml

Object = dict[str, Any]

ROOT = Path(__file__).parents[2]
KUSTOMIZE = ROOT / "deploy" / "kustomize"
CHART = ROOT / "deploy" / "helm" / "opera-reward"
OVERLAYS = sorted(folder.name for folder in (KUSTOMIZE / "overlays").iterdir())
COMPONENTS = sorted(folder.name for folder in (KUSTOMIZE / "components").iterdir())
SINGLES = sorted(folder.name for folder in (KUSTOMIZE / "cluster").iterdir())
"""What is applied once a cluster, whatever the number of services."""
NAME = "opera-reward"
BELOW = {
    "keda-to-zero": ("keda",),
    "model-claim": ("model-cache",),
    "model-shared": ("model-cache",),
    "networkpolicy-mesh": ("networkpolicy",),
    "networkpolicy-otlp": ("networkpolicy",),
    "networkpolicy-vllm-http": ("networkpolicy",),
    "vllm": ("gpu",),
}
"""Components on which others stand."""


def kustomize(folder: Path) -> list[Object]:
    """What `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl (README, More)")
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def overlay(name: str) -> list[Object]:
    return deepcopy(_overlay(name))


@lru_cache
def _overlay(name: str) -> list[Object]:
    return kustomize(KUSTOMIZE / "overlays" / name)


def single(name: str) -> list[Object]:
    """What is applied once a cluster."""
    return deepcopy(_single(name))


@lru_cache
def _single(name: str) -> list[Object]:
    return kustomize(KUSTOMIZE / "cluster" / name)


def with_components(*names: str) -> list[Object]:
    """The base with some components and those below them."""
    return deepcopy(_with_components(names))


@lru_cache
def _with_components(names: tuple[str, ...]) -> list[Object]:
    stacked = dict.fromkeys(one for name in names for one in (*BELOW.get(name, ()), name))
    return written(resources=["base"], components=[f"components/{name}" for name in stacked])


def written(*, resources: list[str], components: list[str] | None = None, **more: Any) -> list[Object]:
    """What a throw-away overlay makes; its resources and components are folders of deploy/kustomize."""
    with TemporaryDirectory() as folder:
        root = Path(*[".."] * (len(Path(folder).resolve().parts) - 1)) / KUSTOMIZE.relative_to("/")
        content = {
            "namespace": NAME,
            "resources": [str(root / name) for name in resources],
            "components": [str(root / name) for name in components or ()],
            **more,
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return kustomize(Path(folder))


def helm(
    *value_files: str, values: dict[str, Any] | None = None, name: str = NAME, namespace: str = NAME
) -> list[Object]:
    """What `helm install name --namespace namespace` would send."""
    merged: dict[str, Any] = {}
    for layer in (*(yaml.safe_load((CHART / file).read_text()) for file in value_files), values or {}):
        merged = _laid_over(merged, layer)
    rendered = chart().render(merged, name=name, namespace=namespace)
    documents = (text for path, text in rendered.items() if path.endswith(".yaml"))
    return [found for text in documents for found in yaml.safe_load_all(text) if found]


@lru_cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(str(CHART))


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Values as helm merges them: maps by key, all else replaced."""
    both = {
        key: _laid_over(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], dict) and isinstance(above[key], dict)
    }
    return {**below, **above, **both}


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    found = [item for item in objects if item["kind"] == kind and name in (None, item["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
    return found[0]


def pod_of(objects: list[Object]) -> Object:
    return one(objects, "Deployment")["spec"]["template"]["spec"]


def container_of(objects: list[Object]) -> Object:
    (container,) = pod_of(objects)["containers"]
    return container


def settings_of(objects: list[Object]) -> dict[str, str]:
    """The environment that the pod takes from its ConfigMap."""
    (source,) = container_of(objects)["envFrom"]
    return one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]


def without_hash(name: str) -> str:
    """A generated ConfigMap's name without the hash of its content."""
    return re.sub(r"-(settings|model)-[a-z0-9]{10}$", r"-\1", name)
