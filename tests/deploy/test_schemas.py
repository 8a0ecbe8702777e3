"""Every object is what the API server, KEDA and the Prometheus operator take; nothing is unknown or misspelt."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import kubernetes_validate
import pytest
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from pydantic import ValidationError

from .cluster import COMPONENTS, OVERLAYS, Object, helm, overlay, with_components

KUBERNETES = ("1.32", "1.34")
# RayService has no published schema; tests/deploy/ray checks its content with Ray's own model.
CUSTOM: dict[str, Any] = {
    "ScaledObject": ScaledObject,
    "PrometheusRule": PrometheusRule,
    "ServiceMonitor": ServiceMonitor,
}
SCHEMALESS = {"RayService"}


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every scalar with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def check(found: Object) -> None:
    """Raise for what the cluster would refuse or, worse, ignore."""
    model = CUSTOM.get(found["kind"])
    if model is None:
        for version in KUBERNETES:
            kubernetes_validate.validate(found, version, strict=True)
        return
    known = model.model_validate(found).model_dump(mode="json", by_alias=True, exclude_unset=True)
    ignored = {path for path, _ in leaves(found)} - {path for path, _ in leaves(known)}
    assert not ignored, f"unknown to {found['kind']}: {sorted(ignored)}"


def check_all(objects: list[Object]) -> None:
    assert objects
    for found in objects:
        if found["kind"] not in SCHEMALESS:
            check(found)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_are_valid(name: str):
    check_all(overlay(name))


@pytest.mark.parametrize("name", COMPONENTS)
def test_components_are_valid_alone(name: str, tmp_path):
    check_all(with_components(tmp_path, name))


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("Deployment", ("spec", "template", "spec"), "terminationGracePeriod"),
        ("HorizontalPodAutoscaler", ("spec", "behavior", "scaleUp"), "stabilisationWindowSeconds"),
        ("ServiceMonitor", ("spec",), "jobLable"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0), "fro"),
    ],
)
def test_a_misspelt_key_is_found(kind: str, path: tuple[str | int, ...], wrong: str):
    found = deepcopy(next(item for item in overlay("gpu") if item["kind"] == kind))
    check(found)
    inner: Any = found
    for step in path:
        inner = inner[step]
    inner[wrong] = "1"
    with pytest.raises((kubernetes_validate.ValidationError, ValidationError, AssertionError)):
        check(found)


def test_the_chart_with_everything_on_is_valid():
    switches = {
        name: {"enabled": True} for name in ("gpu", "modelCache", "monitoring", "networkPolicy", "groupRouting")
    }
    for kind in ("hpa", "keda"):
        check_all(helm(values={**switches, "autoscaling": {"kind": kind}}))
