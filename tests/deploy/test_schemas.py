"""Every object is what the API server and the operators' own definitions take; nothing is unknown or misspelt."""

import json
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from jsonschema import Draft7Validator, ValidationError
from jsonschema.exceptions import best_match

from .cluster import COMPONENTS, OVERLAYS, SINGLES, Object, overlay, single, with_components

KUBERNETES = ("1.32", "1.37")
CUSTOM = {file.stem: file for file in Path(__file__).with_name("crds").glob("*.json")}


def closed(schema: Any) -> Any:
    """The schema, refusing what the API server would silently drop."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Below a combinator fields are restricted, not defined.
    kept = {"properties", "allOf", "anyOf", "oneOf", "not"}
    found = {key: inner if key in kept else closed(inner) for key, inner in schema.items()}
    if "properties" in schema:
        found["properties"] = {name: closed(inner) for name, inner in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
    return found


@lru_cache
def definition(kind: str) -> tuple[str, Draft7Validator]:
    """The apiVersion of a custom kind, and what checks one. Its metadata is Kubernetes' own."""
    found = json.loads(CUSTOM[kind].read_text())
    schema = closed(found["schema"])
    schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    return found["apiVersion"], Draft7Validator(schema)


def pod_templates(value: Any) -> list[Object]:
    """Pods that a custom object is to make."""
    if isinstance(value, list):
        return [pod for item in value for pod in pod_templates(item)]
    if not isinstance(value, dict):
        return []
    own = [value["template"]] if "containers" in value.get("template", {}).get("spec", {}) else []
    return own + [pod for inner in value.values() for pod in pod_templates(inner)]


def check(found: Object) -> None:
    """Raise for what the cluster would refuse or, worse, ignore."""
    if found["kind"] not in CUSTOM:
        for version in KUBERNETES:
            kubernetes_validate.validate(found, version, strict=True)
        return
    api_version, validator = definition(found["kind"])
    assert found["apiVersion"] == api_version
    problem = best_match(validator.iter_errors(found))
    if problem is not None:
        raise ValidationError(f"{found['kind']} {problem.json_path}: {problem.message}")
    check({"apiVersion": "v1", "kind": "ConfigMap", "metadata": found["metadata"]})
    for template in pod_templates(found):
        check({"apiVersion": "v1", "kind": "Pod", **deepcopy(template)})


def check_all(objects: list[Object]) -> None:
    assert objects
    for found in objects:
        check(found)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlays_are_valid(name: str):
    check_all(overlay(name))


@pytest.mark.parametrize("name", COMPONENTS)
def test_components_are_valid_alone(name: str):
    check_all(with_components(name))


@pytest.mark.parametrize("name", SINGLES)
def test_what_is_applied_once_is_valid(name: str):
    check_all(single(name))


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("Deployment", ("spec", "template", "spec"), "terminationGracePeriod"),
        ("HorizontalPodAutoscaler", ("spec", "behavior", "scaleUp"), "stabilisationWindowSeconds"),
        ("ServiceMonitor", ("spec",), "jobLable"),
        ("ServiceMonitor", ("metadata",), "label"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0), "fro"),
        ("ScaledObject", ("spec", "advanced", "horizontalPodAutoscalerConfig"), "behaviour"),
        ("HTTPRoute", ("spec", "rules", 0, "timeouts"), "requests"),
        ("BackendTrafficPolicy", ("spec", "loadBalancer", "consistentHash"), "heads"),
        ("DestinationRule", ("spec", "trafficPolicy", "loadBalancer", "consistentHash"), "httpHeader"),
        ("InferencePool", ("spec", "endpointPickerRef"), "ports"),
        ("PodMonitoring", ("spec", "targetLabels"), "fromPods"),
        ("ClusterQueue", ("spec", "resourceGroups", 0), "flavor"),
        ("LocalQueue", ("spec",), "clusterqueue"),
        ("RayService", ("spec", "rayClusterConfig"), "headGroup"),
        ("RayService", ("spec", "rayClusterConfig", "headGroupSpec", "template", "spec"), "securitycontext"),
    ],
)
def test_a_misspelt_key_is_found(kind: str, path: tuple[str | int, ...], wrong: str, everything: list[Object]):
    found = deepcopy(next(item for item in everything if item["kind"] == kind))
    check(found)
    inner: Any = found
    for step in path:
        inner = inner[step]
    inner[wrong] = "1"
    with pytest.raises((kubernetes_validate.ValidationError, ValidationError)):
        check(found)


@pytest.fixture(scope="module")
def everything() -> list[Object]:
    """All objects that this repository can make, some more than once."""
    objects = [found for name in OVERLAYS for found in overlay(name)]
    for name in COMPONENTS:
        objects += with_components(name)
    return objects + [found for name in SINGLES for found in single(name)]


def test_every_definition_is_used(everything: list[Object]):
    assert set(CUSTOM) == {item["kind"] for item in everything} & set(CUSTOM)


def test_the_chart_with_everything_on_is_valid(everything_on: list[Object]):
    check_all(everything_on)
