"""Several services in one cluster: each scales on its own queue, is scraped once, and alerts once."""

import re
from typing import Any

import pytest

from .cluster import NAME, Object, container_of, helm, one, overlay, pod_of, single, written
from .conftest import EVERYTHING

TWO = {
    "two releases in one namespace": (("judge", "models"), ("policy-8b", "models")),
    "one name in two namespaces": (("judge", "team-a"), ("judge", "team-b")),
    "two of both": (("judge", "team-a"), ("policy-8b", "team-b")),
}
ServiceOf = tuple[str, str]
"""(name, namespace) of a release."""


@pytest.fixture(params=TWO.values(), ids=TWO.keys())
def releases(request: pytest.FixtureRequest) -> dict[ServiceOf, list[Object]]:
    """Two releases with everything on; the first brings the rules."""
    found = {}
    for number, (name, namespace) in enumerate(request.param):
        monitoring = {"monitoring": {"kind": "operator", "rules": number == 0}}
        objects = helm(values={**EVERYTHING, **monitoring}, name=name, namespace=namespace)
        for item in objects:
            item["metadata"].setdefault("namespace", namespace)
        found[name, namespace] = objects
    return found


def together(releases: dict[ServiceOf, list[Object]]) -> list[Object]:
    return [item for objects in releases.values() for item in objects]


def selected(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def matchers(query: str) -> set[tuple[str, str]]:
    """The (service, namespace) that the selectors of a query name."""
    found = re.findall(r"\{(.+?)\}", query)
    pairs = [dict(re.findall(r'(\w+)="(.*?)"', one_of)) for one_of in found]
    return {(pair["service"], pair["namespace"]) for pair in pairs}


def query_of(objects: list[Object]) -> str:
    return one(objects, "ScaledObject")["spec"]["triggers"][0]["metadata"]["query"]


def test_no_object_is_shared(releases: dict[ServiceOf, list[Object]]):
    keys = [(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]) for item in together(releases)]
    assert len(set(keys)) == len(keys)


def test_each_scales_on_its_own_queue(releases: dict[ServiceOf, list[Object]]):
    for (name, namespace), objects in releases.items():
        assert matchers(query_of(objects)) == {(name, namespace)}
        target = one(objects, "ScaledObject")["spec"]["scaleTargetRef"]["name"]
        assert target == one(objects, "Deployment")["metadata"]["name"] == name


def test_by_pods_each_scales_on_its_own_queue(releases: dict[ServiceOf, list[Object]]):
    """prometheus-adapter answers for the pods of the autoscaler's target alone."""
    for name, namespace in releases:
        hpa = one(
            helm(values={"autoscaling": {"kind": "hpa"}}, name=name, namespace=namespace),
            "HorizontalPodAutoscaler",
        )
        assert hpa["spec"]["scaleTargetRef"]["name"] == name
        (metric,) = hpa["spec"]["metrics"]
        assert metric["type"] == "Pods"


def test_selectors_find_their_own_pods_only(releases: dict[ServiceOf, list[Object]]):
    objects = together(releases)
    pods = [
        (item["metadata"]["namespace"], item["spec"]["template"]["metadata"]["labels"])
        for item in objects
        if item["kind"] == "Deployment"
    ]
    checked = 0
    for item in objects:
        spec = item.get("spec", {})
        selector = spec.get("selector") if item["kind"] in ("Service", "InferencePool") else None
        selector = spec["podSelector"] if item["kind"] == "NetworkPolicy" else selector
        selector = spec["selector"] if item["kind"] == "PodDisruptionBudget" else selector
        if selector is not None:
            labels = selector.get("matchLabels", selector)
            home = item["metadata"]["namespace"]
            assert sum(home == namespace and selected(labels, pod) for namespace, pod in pods) == 1, item["kind"]
            checked += 1
    assert checked == 2 * (2 + 1 + 4 + 1)


def test_each_is_scraped_once(releases: dict[ServiceOf, list[Object]]):
    objects = together(releases)
    monitors = [item for item in objects if item["kind"] == "ServiceMonitor"]
    services = [
        item for item in objects if item["kind"] == "Service" and "-members" not in item["metadata"]["name"]
    ]
    assert len(monitors) == len(services) == 2
    for service in [item for item in objects if item["kind"] == "Service"]:
        scraping = [
            monitor
            for monitor in monitors
            if monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
            and selected(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
        ]
        assert len(scraping) == (service in services)
        assert "namespaceSelector" not in monitors[0]["spec"]


def test_each_alerts_once(releases: dict[ServiceOf, list[Object]]):
    """One set of rules covers all: it names no release and groups by namespace and service."""
    (rules,) = [item for item in together(releases) if item["kind"] == "PrometheusRule"]
    assert rules["spec"] == one(single("rules"), "PrometheusRule")["spec"]
    for group in rules["spec"]["groups"]:
        for rule in group["rules"]:
            assert not re.search(r'(service|namespace)="', rule["expr"])
            assert "namespace, service" in rule["expr"] or "{{ $labels.pod }}" in rule["annotations"]["summary"]
    dashboards = [item for item in together(releases) if "grafana_dashboard" in item["metadata"].get("labels", {})]
    assert len(dashboards) == 1


def test_managed_prometheus_gets_the_same_rules_under_its_own_kind():
    objects = helm(values={"monitoring": {"kind": "gke", "rules": True}}, name="judge", namespace="models")
    rules = one(objects, "ClusterRules")
    assert (
        rules["spec"]
        == one(single("rules"), "PrometheusRule")["spec"]
        == one(single("rules-gke"), "ClusterRules")["spec"]
    )
    assert "namespace" not in one(single("rules-gke"), "ClusterRules")["metadata"], "it belongs to the cluster"
    monitoring = one(objects, "PodMonitoring")["spec"]
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert selected(monitoring["selector"]["matchLabels"], labels)
    (service,) = monitoring["targetLabels"]["fromPod"]
    assert (labels[service["from"]], service["to"]) == ("judge", "service"), "what queries call a release"


def test_the_secrets_are_the_documented_ones(releases: dict[ServiceOf, list[Object]]):
    for objects in releases.values():
        names = {volume["secret"]["secretName"] for volume in pod_of(objects)["volumes"] if "secret" in volume}
        assert names == {"opera-reward-keys"}
        assert hub_secret(objects) == "opera-reward-hub"
    own = helm(values={**EVERYTHING, "keysSecret": "judge-keys", "hubSecret": "judge-hub"}, name="judge")
    assert hub_secret(own) == "judge-hub"
    assert (
        one(own, "ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]["name"] == "judge-keys"
    )


def hub_secret(objects: list[Object]) -> str:
    (download,) = pod_of(objects)["initContainers"]
    (token,) = [variable for variable in download["env"] if variable["name"] == "HF_TOKEN"]
    return token["valueFrom"]["secretKeyRef"]["name"]


def test_the_image_is_one_for_all(releases: dict[ServiceOf, list[Object]]):
    assert {container_of(objects)["image"] for objects in releases.values()} == {"opera-reward:0.1.0"}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"namespace": "judge"}, (NAME, "judge")),
        ({"namespace": "judge", "namePrefix": "big-"}, ("big-" + NAME, "judge")),
    ],
)
def test_an_overlay_of_ones_own_scales_on_its_own_queue(more: dict[str, Any], expected: ServiceOf):
    """Whatever namespace and prefix somebody's overlay gives, two levels above the query."""
    objects = written(resources=["overlays/gpu-vllm"], **more)
    assert matchers(query_of(objects)) == {expected}
    names = {item["metadata"]["name"] for item in objects if item["kind"] in ("Deployment", "Service")}
    assert names == {expected[0]}
    assert one(objects, "ScaledObject")["spec"]["scaleTargetRef"]["name"] == expected[0]


def test_overlays_bring_no_rules():
    for name in ("gpu", "gpu-vllm"):
        kinds = {item["kind"] for item in overlay(name)}
        assert "ServiceMonitor" in kinds
        assert "PrometheusRule" not in kinds
